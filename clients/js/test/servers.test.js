// The client against real servers and a real Redis: what breaks on the way costs nobody a message.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import WebSocket from 'ws';
import { RoomcastError, connect } from '../dist/roomcast.js';
import { Proxy, Redis, Server, until } from './support/servers.js';

// Waits stay random and grow as ever, but nobody here has the patience for them.
const { random } = Math;
Math.random = () => random() / 20;

/** A client that is closed with the test. */
function client(t, { url }, options = {}) {
  const chat = connect(url, { username: 'ann', WebSocket, ...options });
  t.after(() => chat.close());
  return chat;
}

/** Collects what comes in a room. */
function listen(room) {
  const heard = { texts: [], seqs: [], resets: [], joins: 0 };
  room.on('message', ({ text, seq }) => {
    heard.texts.push(text);
    heard.seqs.push(seq);
  });
  room.on('reset', (gap) => heard.resets.push(gap));
  room.on('joined', () => heard.joins++);
  return heard;
}

const joined = (room) => until(() => room.state.name === 'joined', () => `${room.name} is joined, not ${JSON.stringify(room.state)}`);
const numbers = (count, from = 0) => Array.from({ length: count }, (_, n) => String(n + from));

/** All that was said came once, in its order, without a gap. */
function assertWhole(heard, texts) {
  assert.deepEqual(heard.texts, texts);
  assert.deepEqual(heard.seqs, heard.seqs.map((_, n) => heard.seqs[0] + n));
  assert.deepEqual(heard.resets, []);
}

test('says something, and hears it with its position', async (t) => {
  const server = await Server.start(t);
  const chat = client(t, server);
  const room = chat.join('lobby');
  const heard = [];
  room.on('message', (message) => heard.push(message));
  const position = await room.send('hello');
  assert.equal(position.seq, 1);
  await until(() => heard.length === 1, 'the own message');
  assert.equal(heard[0].text, 'hello');
  assert.equal(heard[0].username, 'ann');
  assert.equal(heard[0].epoch, position.epoch);
  assert.deepEqual(room.position, position);
  assert.deepEqual(chat.state, { name: 'open' });
  assert.deepEqual(room.unsent, []);
});

test('a room is joined when its history is in', async (t) => {
  const server = await Server.start(t);
  const ann = client(t, server).join('lobby');
  for (const text of numbers(60)) await ann.send(text);
  const room = client(t, server, { username: 'bob' }).join('lobby', { last: 50 });
  const order = [];
  room.on('message', ({ text }) => order.push(text));
  room.on('joined', () => order.push('joined'));
  await joined(room);
  assert.deepEqual(order, [...numbers(50, 10), 'joined']);
});

test('a loop gives the history and what is said then, and ends with the room', async (t) => {
  const server = await Server.start(t);
  const ann = client(t, server).join('lobby');
  await ann.send('before');
  const room = client(t, server, { username: 'bob' }).join('lobby', { last: 10 });
  const texts = [];
  const loop = (async () => {
    for await (const { text } of room) {
      texts.push(text);
      if (text === 'before') await ann.send('after');
      if (text === 'after') room.leave();
    }
  })();
  await loop;
  assert.deepEqual(texts, ['before', 'after']);
  assert.deepEqual(room.state, { name: 'left' });
});

test('a room that was left can be joined again at once', async (t) => {
  const server = await Server.start(t);
  const chat = client(t, server);
  for (const text of numbers(20)) {
    const room = chat.join('lobby', { last: 1 });
    const heard = listen(room);
    await room.send(text);
    if (text !== '0') await until(() => heard.texts.at(-1) === text, `its own ${text}`);
    room.leave();
    await assert.rejects(room.send('too late'), { code: 'left', maybeKept: false });
  }
});

test('one thousand messages through kills, cuts, a Redis that is away, and a drain', { timeout: 120_000 }, async (t) => {
  const redis = await Redis.start(t);
  const servers = [await Server.start(t, { redis, name: 'one' }), await Server.start(t, { redis, name: 'two' })];
  const proxy = await Proxy.start(t, servers[0]);
  const watcher = listen(client(t, servers[1], { username: 'watcher' }).join('lobby'));
  const otherProxy = await Proxy.start(t, servers[1]);
  const elsewhere = listen(client(t, otherProxy, { username: 'elsewhere' }).join('lobby'));
  const room = client(t, proxy).join('lobby');
  const heard = listen(room);
  await until(() => watcher.joins && elsewhere.joins && heard.joins, 'all are in');

  const acks = [];
  const failures = [];
  const say = async (text) => {
    try {
      acks.push([text, await room.send(text)]);
    } catch (error) {
      failures.push([text, error]);
    }
  };
  const breaks = {
    100: async () => {
      await servers[0].kill();
      proxy.target = servers[1];
      await servers[0].start();
    },
    250: () => proxy.cut(),
    400: async () => {
      await redis.kill();
      await sleep(1500);
      await redis.start();
    },
    600: async () => {
      await servers[1].drain();
      proxy.target = otherProxy.target = servers[0];
      await servers[1].start();
    },
    800: () => {
      proxy.cut();
      otherProxy.cut();
    },
  };
  const sends = [];
  const broken = [];
  for (const text of numbers(1000)) {
    broken.push(breaks[text]?.());
    sends.push(say(text));
    await sleep(4);
  }
  await Promise.all(broken);
  await until(() => acks.length + failures.length === 1000, () => `${acks.length} acks`, { within: 60_000 });
  assert.deepEqual(failures, []);
  const texts = numbers(1000);
  for (const [who, ears] of Object.entries({ heard, elsewhere })) {
    await until(() => ears.texts.length >= 1000, () => `${who} hears all, not ${ears.texts.length}`, { within: 30_000 });
    assertWhole(ears, texts);
  }
  // The positions of the acks are those at which everybody heard the message.
  assert.deepEqual(acks.map(([, { seq }]) => seq), heard.seqs);
});

test('a connection that is cut at every stage of a replay goes on where it was', async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.start(t, server);
  const bob = client(t, server, { username: 'bob' }).join('lobby');
  const room = client(t, proxy).join('lobby');
  const heard = listen(room);
  await joined(room);
  let said = 0;
  for (const stage of [0, 150, 300, 1000, 5000, 20_000]) {
    proxy.refuses = true;
    proxy.cut();
    for (const text of numbers(100, said)) await bob.send(text + 'x'.repeat(300));
    said += 100;
    let passed = 0;
    proxy.onData = (direction, data) => {
      if (direction === 'down' && (passed += data.length) > stage) {
        proxy.onData = undefined;
        proxy.cut();
      }
    };
    proxy.refuses = false;
    await until(() => heard.texts.length === said, () => `${said} messages at stage ${stage}, not ${heard.texts.length}`);
  }
  assertWhole(heard, numbers(said).map((text) => text + 'x'.repeat(300)));
});

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

test('a wrong room or name is refused for good, and says why', async (t) => {
  const server = await Server.start(t);
  const chat = client(t, server);
  for (const [room, options, code] of [['no spaces', {}, 'bad_room'], ['lobby', { username: '\u200b' }, 'bad_username']]) {
    const refused = chat.join(room, options);
    await assert.rejects(refused.send('hello'), { code });
    assert.equal(refused.state.name, 'left');
    assert.equal(refused.state.error.code, code);
    await assert.rejects(async () => {
      for await (const _ of refused);
    }, { code });
  }
  // The others are not touched.
  assert.equal((await chat.join('lobby').send('hello')).seq, 1);
});

test('a slow reader that is closed with 4008 loses nothing', { timeout: 60_000 }, async (t) => {
  const server = await Server.start(t, { ROOMCAST_OUTBOX_MESSAGES: '16', ROOMCAST_SEND_BUFFER_BYTES: '4KiB', ROOMCAST_HISTORY_BYTES: '64MiB' });
  const proxy = await Proxy.start(t, server);
  const bob = client(t, server, { username: 'bob' }).join('lobby');
  const chat = client(t, proxy);
  const room = chat.join('lobby');
  const heard = listen(room);
  const whys = [];
  chat.on('state', ({ why }) => why && whys.push(why));
  await joined(room);
  proxy.hold();
  const texts = numbers(800).map((text) => text + 'x'.repeat(8000));
  for (const text of texts.slice(0, 700)) await bob.send(text);
  proxy.release();
  for (const text of texts.slice(700)) await bob.send(text);
  await until(() => heard.texts.length === texts.length, () => `all messages, not ${heard.texts.length} ${whys}`);
  assertWhole(heard, texts);
  assert.match(String(whys), /slow_consumer|lost/);
});

test('what the log no longer has is a gap, and can be loaded from elsewhere', async (t) => {
  const server = await Server.start(t, { ROOMCAST_HISTORY_LENGTH: '10', ROOMCAST_RECENT_BYTES: '0' });
  const proxy = await Proxy.start(t, server);
  const archive = [];
  const bob = client(t, server, { username: 'bob' }).join('lobby');
  bob.on('message', (message) => archive.push(message));
  const load = async ({ after, upTo }) => {
    await sleep(50);
    return archive.filter(({ seq }) => seq > after.seq && seq <= upTo.seq);
  };
  const rooms = [client(t, proxy).join('lobby'), client(t, proxy, { username: 'cleo' }).join('lobby', { load })];
  const [plain, loading] = rooms.map(listen);
  await Promise.all(rooms.map(joined));
  await bob.send('0');
  await until(() => plain.texts.length && loading.texts.length, 'the first message');
  proxy.refuses = true;
  proxy.cut();
  for (const text of numbers(500, 1)) await bob.send(text);
  proxy.refuses = false;
  await until(() => plain.texts.at(-1) === '500' && loading.texts.at(-1) === '500', 'the last message');
  assert.equal(plain.resets.length, 1);
  const [{ after, upTo, reason, filled }] = plain.resets;
  assert.deepEqual([after.seq, reason, filled], [1, 'trimmed', false]);
  assert.equal(plain.texts.length, 1 + 501 - upTo.seq);
  assert.equal(loading.resets[0].filled, true);
  assert.deepEqual(loading.texts, numbers(501));
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

test('a server that stops says when, and is left at once', async (t) => {
  const redis = await Redis.start(t);
  const [one, two] = [await Server.start(t, { redis }), await Server.start(t, { redis })];
  const proxy = await Proxy.start(t, one);
  const chat = client(t, proxy);
  const room = chat.join('lobby');
  const servers = [];
  room.on('joined', ({ originServer }) => servers.push(originServer));
  await joined(room);
  const waits = [];
  chat.on('state', (state) => state.name === 'waiting' && waits.push(state.until - Date.now()));
  proxy.target = two;
  await one.drain();
  await until(() => servers.length === 2, 'it is back');
  assert.ok(waits.length === 1 && waits[0] <= 0, `it waited ${waits}`);
});

test('a 503 with Retry-After is waited for where it can be seen', async (t) => {
  const server = await Server.start(t, { ROOMCAST_MAX_CONNECTIONS: '1' });
  const first = client(t, server);
  await until(() => first.state.name === 'open', 'the first is in');
  const second = client(t, server);
  const waits = [];
  second.on('state', (state) => state.name === 'waiting' && waits.push([state.until - Date.now(), state.why]));
  await until(() => waits.length === 1, 'the second waits');
  assert.ok(waits[0][0] >= 990, `${waits[0]}`);
  assert.match(waits[0][1], /503/);
  first.close();
  await until(() => second.state.name === 'open', 'it is in');
});

test('a dead network is noticed by silence', { timeout: 60_000 }, async (t) => {
  const server = await Server.start(t, { ROOMCAST_PING_INTERVAL: '5s' });
  const proxy = await Proxy.start(t, server);
  const chat = client(t, proxy);
  const room = chat.join('lobby');
  await joined(room);
  proxy.hold();
  const kept = room.send('into the void');
  await until(() => chat.state.name !== 'open', 'it is noticed', { within: 40_000 });
  assert.match(chat.state.why, /silent/);
  proxy.release();
  proxy.cut();
  assert.equal((await kept).seq, 1);
});

test('a token is asked for before every connection', async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.start(t, server);
  const tokens = [];
  const upgrades = [];
  proxy.onData = (direction, data) => direction === 'up' && upgrades.push(String(data));
  const getToken = async () => {
    tokens.push(`token-${tokens.length}`);
    if (tokens.length === 1) throw new Error('the first time it fails');
    return tokens.at(-1);
  };
  const chat = client(t, proxy, { getToken });
  const whys = [];
  chat.on('state', ({ why }) => why && whys.push(why));
  const room = chat.join('lobby');
  await joined(room);
  proxy.cut();
  await until(() => tokens.length === 3, 'another one');
  assert.match(whys[0], /the first time it fails/);
  await until(() => /roomcast\.bearer\.token-2/.test(upgrades.join()), 'the last token');
  assert.match(upgrades.join(), /roomcast\.v1,roomcast\.bearer\.token-1/);
});

test('nothing outlives close, and an AbortSignal closes', async (t) => {
  const server = await Server.start(t);
  const before = process.getActiveResourcesInfo();
  const abort = new AbortController();
  const chat = client(t, server, { signal: abort.signal });
  const room = chat.join('lobby');
  await joined(room);
  const events = [];
  const pending = room.send('x'.repeat(100));
  abort.abort();
  room.on('message', () => events.push('message'));
  chat.on('state', () => events.push('state'));
  assert.equal(chat.state.name, 'closed');
  await assert.rejects(pending, { code: 'closed', maybeKept: true });
  assert.throws(() => chat.join('other'), { code: 'closed' });
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout' || name === 'TCPSocketWrap');
  await until(() => timers().length <= before.filter((name) => name === 'Timeout' || name === 'TCPSocketWrap').length + 1, () => `nothing is left: ${timers()}`);
  assert.deepEqual(events, []);

  // Neither while it waits for a server that is not there.
  const waiting = client(t, { url: 'ws://127.0.0.1:9' });
  await until(() => waiting.state.name === 'waiting', 'it waits');
  waiting.close();
  assert.equal(waiting.state.name, 'closed');
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

test('a listener that throws disturbs nobody', async (t) => {
  const server = await Server.start(t);
  const chat = client(t, server);
  const errors = [];
  chat.on('error', (error) => errors.push(error.message));
  const room = chat.join('lobby');
  room.on('message', () => {
    throw new Error('first');
  });
  const heard = listen(room);
  await room.send('hello');
  await until(() => heard.texts.length === 1, 'the other listener');
  assert.deepEqual(errors, ['first']);
});

test('a broadcast reaches those in no room', async (t) => {
  const server = await Server.start(t);
  const chat = client(t, server);
  const texts = [];
  chat.on('broadcast', ({ text }) => texts.push(text));
  await until(() => chat.state.name === 'open', 'it is in');
  const other = new WebSocket(server.url);
  other.on('open', () => other.send('{"type":"broadcast","text":"all"}'));
  await until(() => texts.length === 1, 'the broadcast');
  other.terminate();
  assert.deepEqual(texts, ['all']);
});
