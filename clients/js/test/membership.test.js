// What a membership decides, frame by frame.
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { Client } from '../src/client.js';
import { begun, joined, message, place, refusal, unsent } from './support/membership.js';
import { settle, sockets } from './support/socket.js';

const MINUTE = 60_000;

test('what may have been kept is not sent again after the window before a replay has shown that it is not there', () => {
  for (const isKept of [false, true]) {
    const { membership, sent, effects } = begun();
    membership.receive(joined(7), 0);
    membership.add(unsent('one'), 0);
    membership.receive(refusal('one', 'unavailable'), 0);
    membership.wake(1);
    membership.receive(refusal('one', 'unavailable', { retry_after_ms: 6 * MINUTE }), 1);
    membership.wake(7 * MINUTE);
    const types = sent().map(({ type }) => type);
    assert.deepEqual(types, ['join', 'message', 'message', 'leave']);
    membership.receive({ type: 'left', room: 'lobby' }, 7 * MINUTE);
    assert.deepEqual(sent().at(-1), { type: 'join', room: 'lobby', username: 'ann', after: place(7) });
    membership.receive(joined(7, { resumed: true, ...(isKept && { until: 8 }) }), 7 * MINUTE);
    if (isKept) membership.receive(message(8, 'one'), 7 * MINUTE);
    assert.equal(sent().filter(({ id }) => id === 'one').length, isKept ? 2 : 3);
    assert.equal(effects.filter(([what]) => what === 'kept').length, isKept ? 1 : 0);
  }
});

test('one message is on the way at a time, and none before the replay is over', () => {
  const { membership, sent } = begun({ last: 5 });
  membership.add(unsent('one'), 0);
  membership.add(unsent('two'), 0);
  membership.receive(joined(3, { until: 5 }), 0);
  membership.receive(message(4), 0);
  assert.deepEqual(sent().map(({ type }) => type), ['join']);
  membership.receive(message(5), 0);
  assert.deepEqual(sent().slice(1).map(({ id }) => id), ['one']);
  // Whichever of the two comes first tells that it is kept.
  membership.receive({ type: 'ack', id: 'one', room: 'lobby', ...place(6) }, 0);
  assert.deepEqual(sent().slice(1).map(({ id }) => id), ['one', 'two']);
  assert.deepEqual(membership.position, place(5));
});

test('a refusal says that the message may be kept if an answer before it left that open', () => {
  const { membership, effects } = begun();
  membership.receive(joined(0), 0);
  for (const [id, first] of [['clear', undefined], ['unclear', 'unavailable']]) {
    membership.add(unsent(id), 0);
    if (first) membership.receive(refusal(id, first), 0);
    membership.wake(1);
    membership.receive(refusal(id, 'text_too_long'), 1);
  }
  const failed = effects.filter(([what]) => what === 'failed').map(([, { id }, error]) => [id, error.maybeKept]);
  assert.deepEqual(failed, [['clear', false], ['unclear', true]]);
});

test('restored messages are looked for from where the first was sent, and history is shown from before', () => {
  const sentBefore = unsent('one', { sent: true, since: 0, after: place(40) });
  assert.deepEqual(begun({ last: 30, restored: [unsent('zero'), sentBefore] }).sent()[0].after, place(10));
  assert.deepEqual(begun({ last: 50, restored: [sentBefore] }).sent()[0].after, place(0));
  assert.deepEqual(begun({ last: 50, restored: [unsent('one')] }).sent()[0].last, 50);
  assert.deepEqual(begun({ after: place(45), restored: [sentBefore] }).sent()[0].after, place(45));
});

test('what comes twice is dropped, and a hole that nobody announced is told', () => {
  const { membership, effects } = begun();
  membership.receive(joined(3), 0);
  for (const seq of [4, 4, 3, 5, 8]) membership.receive(message(seq), 0);
  const events = effects.filter(([what]) => what === 'emit').map(([, type, { seq, upTo }]) => [type, seq ?? upTo?.seq]);
  assert.deepEqual(events, [['joined', undefined], ['message', 4], ['message', 5], ['reset', 7], ['message', 8]]);
});

test('a `left` of the server that crosses with our `leave` costs no membership', () => {
  const { membership, sent } = begun();
  membership.receive(joined(3), 0);
  membership.add(unsent('one', { sent: true, since: -10 * MINUTE, after: place(3) }), 0);
  assert.equal(sent().at(-1).type, 'leave');
  // The server has put us out before it read that; so it answers our `leave` with an error.
  membership.receive({ type: 'left', room: 'lobby', reason: 'unavailable' }, 0);
  assert.equal(sent().at(-1).type, 'leave');
  membership.receive(refusal(undefined, 'not_member'), 0);
  assert.equal(sent().at(-1).type, 'join');
  membership.receive(joined(3, { resumed: true }), 0);
  assert.equal(membership.phase, 'live');
  assert.equal(sent().at(-1).id, 'one');
});

test('what was sent where nothing was kept is not sent again after the window', () => {
  const { membership, sent, effects } = begun({ restored: [unsent('one', { sent: true, since: -10 * MINUTE })] });
  membership.receive(joined(3), 0);
  assert.deepEqual(sent().map(({ type }) => type), ['join']);
  assert.deepEqual(effects.filter(([what]) => what === 'failed').map(([, , { code }]) => code), ['outcome_unknown']);
});

test('a wait is not longer for a clock that was set back', () => {
  const { membership, sent } = begun({ random: () => 1 });
  membership.receive(refusal(undefined, 'unavailable'), 1000 * MINUTE);
  membership.wake(1000 * MINUTE + 500);
  assert.equal(sent().length, 1);
  membership.wake(10 * MINUTE);
  assert.equal(sent().length, 2);
});

test('a room that the server joins by itself is asked for only if something of the past is wanted', () => {
  for (const [options, asked] of [[{}, undefined], [{ last: 5 }, { last: 5 }], [{ after: place(2) }, { after: place(2) }]]) {
    for (const isLater of [false, true]) {
      const given = new Map([['lobby', isLater ? undefined : joined(4)]]);
      const { membership, sent, effects } = begun({ ...options, given });
      if (isLater) {
        assert.deepEqual([membership.phase, sent()], ['joining', []]);
        membership.receive(joined(4), 0);
      }
      assert.equal(given.size, 0);
      if (asked) assert.deepEqual(sent(), [{ type: 'join', room: 'lobby', username: 'ann', ...asked }]);
      // Of what the server has joined by itself.
      if (asked) membership.receive(message(5), 0);
      else membership.add(unsent('one'), 0);
      if (asked) membership.receive(joined(2, { until: 5, ...(options.after && { resumed: true }) }), 0);
      for (const seq of asked ? [3, 4, 5] : [5]) membership.receive(message(seq), 0);
      assert.equal(membership.phase, 'live');
      assert.deepEqual(sent().map(({ type }) => type), [asked ? 'join' : 'message'], 'what is to be said goes out at once');
      const heard = effects.filter(([what, type]) => what === 'emit' && type === 'message').map(([, , { seq }]) => seq);
      assert.deepEqual(heard, asked ? [3, 4, 5] : [5]);
    }
  }
});

test('a room that the server said it would join and does not is joined all the same', () => {
  const { membership, sent } = begun({ given: new Map([['lobby', undefined]]) });
  membership.add(unsent('one'), 0);
  assert.equal(membership.wakeAt, 5000);
  membership.wake(4999);
  assert.deepEqual(sent(), []);
  membership.wake(5000);
  membership.receive(joined(3), 5000);
  assert.deepEqual(sent().map(({ type }) => type), ['join', 'message']);
});

test('a join that may have crossed with the server’s own is made anew', () => {
  for (const wish of [{ last: 5 }, { after: place(2) }]) {
    const given = new Map();
    const { membership, sent } = begun({ ...wish, given });
    // The client has been told, since it sent its join, that the server would join the room.
    given.set('lobby', undefined);
    membership.receive(joined(4), 0);
    membership.receive(joined(2, { until: 4 }), 0);
    membership.receive({ type: 'left', room: 'lobby' }, 0);
    assert.deepEqual(sent().map(({ type }) => type), ['join', 'leave', 'join']);
    membership.receive(joined(4), 0);
    assert.equal(membership.phase, 'live');
  }
});

test('a join that came too late, as the server had joined by itself, costs no message', () => {
  const { membership, sent, effects } = begun();
  membership.receive(joined(3), 0);
  membership.add(unsent('one'), 0);
  membership.receive(refusal(undefined, 'already_member'), 0);
  membership.receive({ type: 'ack', id: 'one', room: 'lobby', ...place(4) }, 0);
  assert.deepEqual(sent().map(({ type }) => type), ['join', 'message']);
  assert.deepEqual(effects.filter(([what]) => what === 'kept' || what === 'failed').map(([what]) => what), ['kept']);
});

test('a room that was given and then refused is left, so that the server gives it again another time', () => {
  const { membership, sent } = begun({ last: 5, given: new Map([['lobby', joined(4)]]) });
  membership.receive(refusal(undefined, 'forbidden', { right: 'history' }), 0);
  assert.deepEqual(sent().map(({ type }) => type), ['join', 'leave']);
  assert.equal(membership.error.right, 'history');
});

test('what a token forbids ends the room or the message, and is not tried again', () => {
  const first = begun();
  first.membership.receive(refusal(undefined, 'forbidden', { right: 'join' }), 0);
  assert.deepEqual([first.membership.error.code, first.membership.error.right], ['forbidden', 'join']);

  const second = begun();
  second.membership.receive(joined(3), 0);
  for (const id of ['one', 'two']) second.membership.add(unsent(id), 0);
  second.membership.receive(refusal('one', 'forbidden', { right: 'send' }), 0);
  const failed = () => second.effects.filter(([what]) => what === 'failed').map(([, { id }, { code, right, maybeKept }]) => [id, code, right, maybeKept]);
  assert.deepEqual(failed(), [['one', 'forbidden', 'send', false]]);
  assert.equal(second.sent().at(-1).id, 'two');
  second.membership.receive({ type: 'left', room: 'lobby', reason: 'forbidden' }, 0);
  assert.deepEqual(failed()[1], ['two', 'forbidden', undefined, true]);
  assert.deepEqual([second.membership.phase, second.membership.error.code], ['ended', 'forbidden']);
  second.membership.wake(MINUTE);
  assert.equal(second.sent().length, 3);
});

test('whoever may not read the past comes back with a gap', () => {
  const { membership, sent, effects } = begun();
  membership.receive(joined(3), 0);
  membership.disconnected();
  membership.connected(0);
  assert.deepEqual(sent().at(-1).after, place(3));
  membership.receive(refusal(undefined, 'forbidden', { right: 'history' }), 0);
  assert.deepEqual(sent().at(-1), { type: 'join', room: 'lobby', username: 'ann' });
  membership.receive(joined(7), 0);
  const gaps = effects.filter(([what, type]) => what === 'emit' && type === 'reset').map(([, , gap]) => gap);
  assert.deepEqual(gaps, [{ after: place(3), upTo: place(7), reason: 'forbidden', filled: false }]);
  assert.deepEqual([membership.phase, membership.position], ['live', place(7)]);

  // A position of the user's own is a wish of theirs, which is refused.
  const other = begun({ after: place(3) });
  other.membership.receive(refusal(undefined, 'forbidden', { right: 'history' }), 0);
  assert.equal(other.membership.phase, 'ended');
});

test('what a socket that was given up still says does not count', async (t) => {
  mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  t.after(() => mock.timers.reset());
  const { made, Socket } = sockets();
  const environment = { now: () => Date.now(), random: () => 0, isOnline: () => true, watch: () => {} };
  const client = new Client('ws://nowhere', { WebSocket: Socket, username: 'ann' }, environment);
  t.after(() => client.close());
  const heard = [];
  client.on('broadcast', ({ text }) => heard.push(text));
  await settle();
  const [first] = made;
  first.listeners.open({});
  first.listeners.message({ data: '{"type":"broadcast","text":"one"}' });
  for (let looks = 0; looks < 8; looks++) mock.timers.tick(5000);
  await settle();
  assert.equal(made.length, 2, 'the silent one was given up');
  made[1].listeners.open({});
  first.listeners.message({ data: '{"type":"broadcast","text":"late"}' });
  first.listeners.close({ code: 4501, reason: 'late' });
  // What is no frame at all is passed over.
  for (const data of ['null', '{', '7', new ArrayBuffer(1)]) made[1].listeners.message({ data });
  made[1].listeners.message({ data: '{"type":"broadcast","text":"two"}' });
  assert.deepEqual(heard, ['one', 'two']);
  assert.equal(client.state.name, 'open');
});
