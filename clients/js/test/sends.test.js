// What becomes of a message that cannot go out at once, or at all.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { RoomcastError } from '../dist/roomcast.js';
import { assertWhole, client, joined, listen, numbers } from './support/rooms.js';
import { Proxy, Redis, Server, until } from './support/servers.js';

test('what is over the limit of a frame is refused, and blocks nothing', async (t) => {
  const server = await Server.start(t);
  const room = client(t, server).join('lobby');
  const outcomes = await Promise.allSettled([
    room.send('first'),
    room.send('x'.repeat(17 << 10)),
    room.send('y'.repeat(200 << 10)),
    room.send('\ud83d'),
    room.send('last'),
  ]);
  const codes = outcomes.map(({ value, reason }) => reason?.code ?? value.seq);
  assert.deepEqual(codes, [1, 'text_too_long', 'text_too_long', 'bad_field', 2]);
  for (const { reason } of outcomes) if (reason) assert.ok(reason instanceof RoomcastError && !reason.maybeKept);
});

test('unsent messages outlive a reload in their store, and are sent once', async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.start(t, server);
  const bob = listen(client(t, server, { username: 'bob' }).join('lobby'));
  await until(() => bob.joins, 'bob is in');
  const kept = new Map();
  const store = { all: () => [...kept.values()], put: (unsent) => void kept.set(unsent.id, unsent), delete: (id) => void kept.delete(id) };
  const first = client(t, proxy, { store });
  const room = first.join('lobby');
  await room.send('0');
  // The first arrives, but its answer does not come back; the others never leave.
  proxy.drops = (direction) => direction === 'down';
  for (const text of numbers(3, 1)) room.send(text).catch(() => {});
  await until(() => bob.texts.includes('1'), 'the one on the way');
  first.close();
  proxy.drops = undefined;
  assert.deepEqual([...kept.values()].map(({ text, sent }) => [text, sent]), [['1', true], ['2', false], ['3', false]]);

  const second = client(t, proxy, { store: { ...store, all: async () => (await sleep(20), [...kept.values()]) } });
  const again = second.join('lobby', { last: 5 });
  const heard = listen(again);
  await until(() => again.state.name === 'joined' && !again.unsent.length && !kept.size, 'nothing is unsent');
  await until(() => bob.texts.length === 4, 'all of them');
  assertWhole(bob, numbers(4));
  await until(() => heard.texts.length === 4, 'the reloaded page has the whole story');
  assertWhole(heard, numbers(4));
});

test('an id whose window is over is sent again only if the replay does not have it', { timeout: 60_000 }, async (t) => {
  const redis = await Redis.start(t);
  const server = await Server.start(t, { redis, ROOMCAST_DEDUP_WINDOW: '1s' });
  const proxy = await Proxy.start(t, server);
  const bob = listen(client(t, server, { username: 'bob' }).join('lobby'));
  const room = client(t, proxy, { dedupWindow: 1000 }).join('lobby');
  await Promise.all([until(() => bob.joins, 'bob is in'), joined(room)]);
  // One arrives and its ack is lost, the other is lost itself.
  proxy.drops = (direction) => direction === 'down';
  const arrived = room.send('arrived');
  await until(() => bob.texts.includes('arrived'), 'it arrives');
  proxy.drops = undefined;
  proxy.refuses = true;
  proxy.cut();
  const lost = room.send('lost');
  await sleep(2500);
  proxy.refuses = false;
  assert.deepEqual((await Promise.all([arrived, lost])).map(({ seq }) => seq), [1, 2]);
  await until(() => bob.texts.length === 2, 'both');
  assertWhole(bob, ['arrived', 'lost']);

  // The same on one connection: Redis is away for longer than the window.
  await redis.kill();
  const during = room.send('during');
  await sleep(2500);
  await redis.start();
  assert.equal((await during).seq, 3);
  await until(() => bob.texts.length === 3, 'the third');
  assertWhole(bob, ['arrived', 'lost', 'during']);
});

test('without history what may have been kept is not sent twice', async (t) => {
  const server = await Server.start(t, { ROOMCAST_HISTORY_LENGTH: '0' });
  const proxy = await Proxy.start(t, server);
  const bob = listen(client(t, server, { username: 'bob' }).join('lobby'));
  const room = client(t, proxy).join('lobby');
  await Promise.all([until(() => bob.joins, 'bob is in'), joined(room)]);
  assert.equal(await room.send('one'), undefined);
  proxy.drops = (direction) => direction === 'down';
  const unclear = room.send('two');
  const failed = [];
  room.on('failed', ({ unsent, error }) => failed.push([unsent.text, error.code]));
  const never = room.send('three');
  await until(() => bob.texts.includes('two'), 'it arrives');
  proxy.drops = undefined;
  proxy.cut();
  await assert.rejects(unclear, { code: 'outcome_unknown', maybeKept: true });
  assert.equal(await never, undefined);
  await until(() => bob.texts.length === 3, 'all three');
  assert.deepEqual(bob.texts, ['one', 'two', 'three']);
  assert.deepEqual(failed, [['two', 'outcome_unknown']]);
});

test('a message can be taken back while it is not on a connection', async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.start(t, server);
  proxy.refuses = true;
  const room = client(t, proxy).join('lobby');
  const abort = new AbortController();
  const taken = room.send('taken back', { signal: abort.signal });
  const kept = room.send('kept');
  abort.abort();
  await assert.rejects(taken, { name: 'AbortError' });
  proxy.refuses = false;
  assert.equal((await kept).seq, 1);
});

test('what waits is bounded by number and by bytes', async (t) => {
  const room = client(t, { url: 'ws://127.0.0.1:9' }, { maxUnsent: 3, maxUnsentBytes: 10, maxUnsentAge: 500 }).join('lobby');
  const old = ['one', 'two', 'six'].map((text) => room.send(text));
  await assert.rejects(room.send(''), { code: 'queue_full', maybeKept: false });
  for (const send of old) await assert.rejects(send, { code: 'too_old', maybeKept: false });
  await assert.rejects(room.send('more than 10'), { code: 'queue_full' });
  assert.deepEqual(room.unsent, []);
});
