// What users do at the wrong moment, and stores, hooks and servers that answer badly: each was a fault once.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { client, joined, listen, numbers } from './support/rooms.js';
import { Proxy, Server, until } from './support/servers.js';

test('a room that is left by a listener in the replay stays left', async (t) => {
  const server = await Server.start(t);
  const bob = client(t, server, { username: 'bob' }).join('lobby');
  for (const text of numbers(5)) await bob.send(text);
  const chat = client(t, server);
  const room = chat.join('lobby', { last: 5 });
  const states = [];
  room.on('state', ({ name }) => states.push(name));
  room.on('message', ({ text }) => text === '4' && room.leave());
  await until(() => room.state.name === 'left', 'it is left');
  await assert.rejects(room.send('too late'), { code: 'left', maybeKept: false });
  assert.deepEqual(states, ['left']);
  assert.notEqual(chat.join('lobby'), room);
});

test('whatever is sent or closed from within a listener comes to an end', { timeout: 20_000 }, async (t) => {
  const server = await Server.start(t);
  const chat = client(t, server);
  const room = chat.join('lobby', { username: '\u200b' });
  const outcomes = [];
  const note = (send) => outcomes.push(send.then(() => 'kept', ({ code }) => code));
  room.on('failed', ({ unsent }) => {
    note(room.send(`${unsent.text} again`));
    note(chat.join('no spaces').send('x'));
    chat.close();
  });
  note(room.send('one'));
  note(room.send('two'));
  await until(() => outcomes.length >= 4, 'the listener was called');
  assert.deepEqual(await Promise.all(outcomes.slice(0, 4)), ['bad_username', 'closed', 'bad_username', 'bad_room']);
  await assert.rejects(room.send('three'));
});

test('an id that the server does not take costs its own message alone', async (t) => {
  const server = await Server.start(t);
  const room = client(t, server).join('lobby');
  await assert.rejects(room.send('one', { id: 'x'.repeat(129) }), { code: 'bad_id', maybeKept: false });
  await assert.rejects(room.send('two', { id: 'a\u0000b' }), { code: 'bad_id' });
  assert.equal((await room.send('three', { id: '' })).seq, 1);
  assert.equal((await room.send('four', { id: 'x'.repeat(128) })).seq, 2);
});

test('a room whose name is too long for the server is refused, and no other', async (t) => {
  const server = await Server.start(t, { ROOMCAST_MAX_ROOM_LENGTH: '5' });
  const chat = client(t, server);
  const rooms = ['abc', 'lobby', 'lobby2', 'lobby-long'].map((name) => chat.join(name).send('hello'));
  const outcomes = await Promise.allSettled(rooms);
  assert.deepEqual(outcomes.map(({ status, reason }) => reason?.code ?? status), ['fulfilled', 'fulfilled', 'bad_room', 'bad_room']);
});

/** A room that missed `count` messages, of which the server has only the last ten. */
async function trimmed(t, load, count = 300) {
  const server = await Server.start(t, { ROOMCAST_HISTORY_LENGTH: '10', ROOMCAST_RECENT_BYTES: '0' });
  const proxy = await Proxy.start(t, server);
  const bob = client(t, server, { username: 'bob' }).join('lobby');
  const archive = [];
  bob.on('message', (message) => archive.push(message));
  const chat = client(t, proxy);
  const errors = [];
  chat.on('error', (error) => errors.push(error));
  const room = chat.join('lobby', { load: (gap, options) => load(gap, options, archive) });
  const heard = listen(room);
  await joined(room);
  proxy.refuses = true;
  proxy.cut();
  for (const text of numbers(count)) await bob.send(text);
  proxy.refuses = false;
  return { room, heard, bob, errors };
}

test('a hook that brings nothing, junk or an error leaves the gap, and what follows comes', async (t) => {
  const hooks = [() => undefined, () => 5, () => { throw new Error('no archive'); }, async () => Promise.reject(new Error('no archive'))];
  for (const hook of hooks) {
    const { room, heard, bob, errors } = await trimmed(t, hook);
    await until(() => heard.texts.at(-1) === '299' && room.state.name === 'joined', 'it is back');
    await bob.send('after');
    await until(() => heard.texts.at(-1) === 'after', 'and goes on');
    assert.deepEqual(heard.resets.map(({ filled }) => filled), [false]);
    assert.equal(errors.length, 1);
  }
});

test('the position is that of the last event, also while a gap is being loaded', async (t) => {
  let load;
  const { room, heard, bob } = await trimmed(t, async (gap, options, archive) => {
    await new Promise((resolve) => (load = resolve));
    return archive.filter(({ seq }) => seq > gap.after.seq && seq <= gap.upTo.seq);
  });
  await until(() => load, 'it is asked for');
  await bob.send('meanwhile');
  await sleep(100);
  assert.equal(room.position.seq, 0);
  assert.equal(room.state.name, 'joining');
  load();
  await until(() => heard.texts.at(-1) === 'meanwhile', 'it is there');
  assert.deepEqual(heard.texts, [...numbers(300), 'meanwhile']);
  assert.equal(room.position.seq, 301);
});

test('a store may answer with anything, late, or not at all', async (t) => {
  const server = await Server.start(t);
  const entry = { id: 'kept-1', room: 'lobby', username: 'ann', text: 'from the store', at: Date.now(), sent: false };
  const thenable = { then: (resolve) => setTimeout(() => resolve([Object.freeze({ ...entry })]), 20) };
  const answers = [() => thenable, async () => null, () => undefined, () => { throw new Error('no store'); }, async () => new Set()];
  for (const [index, all] of answers.entries()) {
    const errors = [];
    const failing = () => Promise.reject(new Error('full'));
    const chat = client(t, server, { store: { all, put: failing, delete: () => {} } });
    chat.on('error', ({ message }) => errors.push(message));
    const room = chat.join(index ? 'other' : 'lobby');
    const changes = [];
    room.on('unsent', (unsent) => changes.push(unsent.length));
    assert.ok((await room.send('new')).seq >= 1);
    if (!index) assert.ok(changes.includes(1) && room.position.seq === 2, 'what was in the store goes first');
    assert.ok(errors.length >= 1, 'a store that fails is reported');
  }
});

test('what was in a store and lies before a position that is given is not sent again once its window is over', async (t) => {
  const server = await Server.start(t, { ROOMCAST_DEDUP_WINDOW: '1s' });
  const first = client(t, server).join('lobby');
  const kept = await first.send('mine', { id: 'mine-1' });
  await sleep(1200);
  const entry = { id: 'mine-1', room: 'lobby', username: 'ann', text: 'mine', at: Date.now(), sent: true, since: Date.now() - 1200, after: { epoch: kept.epoch, seq: 0 } };
  const chat = client(t, server, { dedupWindow: 1000, store: { all: () => [entry], put: () => {}, delete: () => {} } });
  const room = chat.join('lobby', { after: kept });
  const failed = [];
  room.on('failed', ({ error }) => failed.push(error.code));
  await room.send('next');
  assert.deepEqual(failed, ['outcome_unknown']);
  assert.equal(room.position.seq, 2);
});

test('what is taken back is gone from the store, too', async (t) => {
  const server = await Server.start(t);
  const kept = new Map();
  const store = { all: () => [], put: (unsent) => void kept.set(unsent.id, unsent), delete: (id) => void kept.delete(id) };
  const room = client(t, server, { store }).join('lobby');
  const abort = new AbortController();
  room.on('joined', () => {
    room.send('first').catch(() => {});
    room.send('second', { signal: abort.signal }).catch(() => {});
    abort.abort();
  });
  await joined(room);
  await room.send('third');
  await until(() => !kept.size, () => `the store is empty, not ${[...kept.values()].map(({ text }) => text)}`);
  assert.equal(room.position.seq, 2);
});

test('options that are undefined are as if they were left out', async (t) => {
  const server = await Server.start(t);
  const options = { maxUnsent: undefined, maxUnsentBytes: undefined, maxUnsentAge: undefined, dedupWindow: undefined };
  const room = client(t, server, options).join('lobby', { username: undefined, last: undefined });
  assert.equal((await room.send('hello')).seq, 1);
});

test('a listener is not called after it was taken off, and one that rejects is reported', async (t) => {
  const server = await Server.start(t);
  const chat = client(t, server);
  const errors = [];
  chat.on('error', ({ message }) => errors.push(message));
  const room = chat.join('lobby');
  const calls = [];
  room.on('message', async () => Promise.reject(new Error('later')));
  room.on('message', () => {
    calls.push('first');
    off();
  });
  const off = room.on('message', () => calls.push('second'));
  await room.send('hello');
  await until(() => errors.length, 'the rejection');
  assert.deepEqual([calls, errors], [['first'], ['later']]);
});

test('a room says that it is not joined when the server has put us out', async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.start(t, server);
  const room = client(t, proxy).join('lobby');
  await joined(room);
  const states = [];
  room.on('state', ({ name }) => states.push(name));
  proxy.cut();
  await until(() => states.length === 2, 'out and in');
  assert.deepEqual(states, ['joining', 'joined']);
});
