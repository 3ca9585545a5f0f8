// What a room carries beside texts, and what a slim message does not say: frame by frame.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Client } from '../src/client.js';
import { begun, joined, message, place, refusal, unsent } from './support/membership.js';
import { settle, sockets } from './support/socket.js';

const MINUTE = 60_000;
const ack = (id, seq) => ({ type: 'ack', id, room: 'lobby', ...place(seq) });
/** What a slim frame says of a message whose `id` is not told. */
const slim = (seq, said) => ({ type: 'message', room: 'lobby', username: 'ann', seq, ...said });
const heard = (effects) => effects.filter(([what, type]) => what === 'emit' && type === 'message').map(([, , { seq }]) => seq);
const texts = (sent, id) => sent().filter((frame) => frame.id === id).length;

/** Ann has said something, whose fate Redis has not told the server; then it comes, without an id. */
function inDoubt(said = { text: 'hello', data: { b: [1], a: 'ä' }, event: 'greeting' }) {
  const all = begun();
  all.membership.receive(joined(3), 0);
  all.membership.add(unsent('one', { text: undefined, ...said }), 0);
  all.membership.receive(refusal('one', 'unavailable', { retry_after_ms: 6 * MINUTE }), 0);
  all.membership.receive(slim(4, { text: 'other' }), 0);
  all.membership.receive(slim(5, said), 0);
  all.membership.receive(slim(6, { text: 'more' }), 0);
  return all;
}

test('a message that may be ours comes at once, and is found by the replay after a break', () => {
  const { membership, sent, effects } = inDoubt();
  assert.deepEqual(heard(effects), [4, 5, 6]);
  assert.deepEqual(membership.position, place(6), 'what has been heard');
  membership.disconnected();
  membership.connected(10 * MINUTE);
  assert.deepEqual(sent().at(-1).after, place(4), 'it resumes from before it');
  membership.receive(joined(4, { resumed: true, until: 7 }), 10 * MINUTE);
  membership.receive({ ...message(5, 'one'), text: 'hello' }, 10 * MINUTE);
  for (const seq of [6, 7]) membership.receive(message(seq), 10 * MINUTE);
  assert.deepEqual(heard(effects), [4, 5, 6, 7], 'nothing comes twice');
  assert.equal(texts(sent, 'one'), 1, 'what is kept is not sent again');
  assert.deepEqual(effects.filter(([what]) => what === 'kept').map(([, { id }, at]) => [id, at]), [['one', place(5)]]);
  assert.deepEqual([membership.phase, membership.position], ['live', place(7)]);
});

test('a message that only looked like ours is heard once, and ours goes out', () => {
  const { membership, sent, effects } = inDoubt();
  membership.disconnected();
  membership.connected(10 * MINUTE);
  membership.receive(joined(4, { resumed: true, until: 6 }), 10 * MINUTE);
  for (const seq of [5, 6]) membership.receive(message(seq, `of-others-${seq}`), 10 * MINUTE);
  assert.equal(texts(sent, 'one'), 2);
  membership.receive(ack('one', 7), 10 * MINUTE);
  membership.disconnected();
  membership.connected(10 * MINUTE);
  assert.deepEqual(sent().at(-1).after, place(6), 'the doubt has ended with the answer');
  assert.deepEqual(heard(effects), [4, 5, 6]);
});

test('a message that comes before its ack is in doubt until then', () => {
  for (const isAcked of [false, true]) {
    const { membership, sent } = begun();
    membership.receive(joined(3), 0);
    membership.add(unsent('one'), 0);
    membership.receive(slim(4, { text: 'one' }), 0);
    if (isAcked) membership.receive(ack('one', 4), 0);
    membership.disconnected();
    membership.connected(0);
    assert.deepEqual(sent().at(-1).after, place(isAcked ? 4 : 3));
  }
});

test('what says something else is not in doubt', () => {
  const said = { text: 'hello', data: { a: 1 }, event: 'greeting' };
  for (const other of [{ ...said, text: 'hi' }, { ...said, data: { a: 2 } }, { ...said, event: undefined }, { text: 'hello' }]) {
    const { membership, sent } = begun();
    membership.receive(joined(3), 0);
    membership.add(unsent('one', said), 0);
    membership.receive(slim(4, other), 0);
    membership.disconnected();
    membership.connected(0);
    assert.deepEqual(sent().at(-1).after, place(4));
  }
});

test('a doubt that the log no longer reaches costs no gap, and nothing is sent twice', () => {
  const { membership, sent, effects } = inDoubt();
  membership.disconnected();
  membership.connected(10 * MINUTE);
  membership.receive(joined(4, { resumed: false, until: 8 }), 10 * MINUTE);
  membership.receive({ type: 'reset', room: 'lobby', ...place(5), reason: 'trimmed' }, 10 * MINUTE);
  for (const seq of [6, 7, 8]) membership.receive(message(seq), 10 * MINUTE);
  assert.deepEqual(heard(effects), [4, 5, 6, 7, 8]);
  assert.deepEqual(effects.filter(([, type]) => type === 'reset'), []);
  assert.equal(texts(sent, 'one'), 1);
  const failed = effects.filter(([what]) => what === 'failed').map(([, { id }, { code, maybeKept }]) => [id, code, maybeKept]);
  assert.deepEqual(failed, [['one', 'outcome_unknown', true]]);
});

test('a doubt that ends while it resumes brings nothing twice', () => {
  const { membership, effects } = inDoubt();
  membership.disconnected();
  membership.connected(10 * MINUTE);
  membership.drop('one', 10 * MINUTE, 'taken back');
  membership.receive(joined(4, { resumed: true, until: 7 }), 10 * MINUTE);
  for (const seq of [5, 6, 7]) membership.receive(message(seq), 10 * MINUTE);
  assert.deepEqual(heard(effects), [4, 5, 6, 7]);
});

/** A page of the history, and what became of it. */
function page(wish = {}) {
  const all = { wish, late: { aborted: false }, resolve: (answer) => (all.answer = answer), reject: ({ code }) => (all.code = code) };
  return all;
}

test('pages are asked for one at a time, in the room, and each gets its own answer', () => {
  const { membership, sent } = begun();
  const asked = () => sent().filter(({ type }) => type === 'history').map(({ limit }) => limit);
  const pages = [1, 2, 3, 4].map((limit) => page({ limit }));
  for (const each of pages) membership.read(each);
  assert.deepEqual(asked(), []);
  membership.receive(joined(3), 0);
  assert.deepEqual(asked(), [1]);
  pages[1].late.aborted = true;
  membership.receive({ type: 'history', room: 'lobby', messages: [], has_more: false }, 0);
  assert.deepEqual([asked(), pages[0].answer.messages], [[1, 3], []]);
  membership.receive(refusal(undefined, 'forbidden', { right: 'history' }), 0);
  assert.deepEqual([asked(), pages[2].code], [[1, 3, 4], 'forbidden']);
  membership.disconnected();
  assert.equal(pages[3].code, 'no_answer');
  const last = page();
  membership.read(last);
  membership.leave();
  assert.equal(last.code, 'left');
});

test('a refusal of a page or a signal costs no message, and that of an id is the message’s', () => {
  const { membership, sent, effects } = begun();
  const of = (what) => effects.filter(([name]) => name === what);
  membership.signal('too early');
  membership.receive(joined(3), 0);
  const [first] = [page(), page()].map((each) => (membership.read(each), each));
  membership.signal('typing', { at: 1 });
  membership.add(unsent('one', { text: undefined, data: 7, event: 'e' }), 0);
  assert.deepEqual(sent().slice(-2), [
    { type: 'signal', room: 'lobby', event: 'typing', data: { at: 1 } },
    { type: 'message', room: 'lobby', id: 'one', text: undefined, event: 'e', data: 7 },
  ]);
  membership.receive(refusal(undefined, 'muted'), 0);
  assert.equal(first.code, undefined);
  membership.receive(refusal(undefined, 'unavailable'), 0);
  assert.equal(first.code, 'unavailable');
  membership.receive(refusal(undefined, 'forbidden', { right: 'signal' }), 0);
  assert.deepEqual(of('report').map(([, { code, right }]) => [code, right]), [['muted', undefined], ['forbidden', 'signal']]);
  assert.deepEqual(of('failed'), []);
  membership.receive(refusal(undefined, 'bad_id'), 0);
  assert.deepEqual(of('failed').map(([, { id }, { code }]) => [id, code]), [['one', 'bad_id']]);
});

test('a page that is not answered is given up after ten seconds, and one of a closed client at once', async (t) => {
  const deadline = new AbortController();
  t.mock.method(AbortSignal, 'timeout', (time) => (assert.equal(time, 10_000), deadline.signal));
  const { made, Socket } = sockets();
  const environment = { now: () => Date.now(), random: () => 0, isOnline: () => true, watch: () => {} };
  const client = new Client('ws://nowhere', { WebSocket: Socket, username: 'ann' }, environment);
  t.after(() => client.close());
  await settle();
  const room = client.join('lobby');
  made[0].listeners.open({});
  made[0].listeners.message({ data: JSON.stringify(joined(3)) });
  const late = room.history({ before: { ...message(3), text: 'x' } }).catch(({ code }) => code);
  assert.deepEqual(JSON.parse(made[0].sent.at(-1)), { type: 'history', room: 'lobby', before: place(3) });
  deadline.abort();
  assert.equal(await late, 'no_answer');
  t.mock.restoreAll();
  const other = room.history().catch(({ code }) => code);
  client.close();
  assert.equal(await other, 'closed');
  assert.equal(await room.history().catch(({ code }) => code), 'closed');
});

test('what is sent is what was given, whatever becomes of it', async (t) => {
  const { made, Socket } = sockets();
  const environment = { now: () => Date.now(), random: () => 0, isOnline: () => true, watch: () => {} };
  const client = new Client('ws://nowhere', { WebSocket: Socket, username: 'ann' }, environment);
  t.after(() => client.close());
  await settle();
  const room = client.join('lobby');
  const data = { list: [1] };
  room.send({ data, event: 'e', id: 'not ours' }, { id: 'mine' }).catch(() => {});
  data.list.push(2);
  made[0].listeners.open({});
  made[0].listeners.message({ data: JSON.stringify(joined(3)) });
  assert.deepEqual(JSON.parse(made[0].sent.at(-1)), { type: 'message', room: 'lobby', id: 'mine', event: 'e', data: { list: [1] } });
  const circle = {};
  circle.circle = circle;
  for (const wrong of [{ data: circle }, { data: 1n }, null]) await assert.rejects(room.send(wrong), TypeError);
  let deep = 1;
  for (let level = 0; level < 99; level++) deep = [deep];
  await assert.rejects(room.send({ data: deep }), { code: 'bad_field' });
  room.send({ data: deep[0] }).catch(() => {});
});
