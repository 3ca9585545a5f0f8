// A real server behind a network that lets no WebSocket through: streams of events and requests in their place.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import WebSocket from 'ws';
import { Client } from '../src/client.js';
import { blocking } from './support/blocks.js';
import { assertWhole, client, joined, listen, numbers } from './support/rooms.js';
import { Proxy, Redis, Server, until } from './support/servers.js';
import { KEYED, token } from './support/tokens.js';

const OVER_HTTP = { transports: ['stream'] };
const isOn = (chat, kind) => until(() => chat.transport === kind, () => `${kind}, not ${chat.transport} ${JSON.stringify(chat.state)}`);

test('where WebSockets do not open, two clients talk by streams, and miss nothing when these are cut', { timeout: 60_000 }, async (t) => {
  const redis = await Redis.start(t);
  const servers = [await Server.start(t, { redis }), await Server.start(t, { redis })];
  const proxies = [await blocking(t, servers[0]), await blocking(t, servers[1], 'reset')];
  const chats = ['ann', 'bob'].map((username, n) => client(t, proxies[n], { username }));
  const rooms = chats.map((chat) => chat.join('lobby'));
  const heard = rooms.map(listen);
  await Promise.all(rooms.map(joined));
  for (const chat of chats) assert.equal(chat.transport, 'stream');
  for (const { requests } of proxies) assert.deepEqual(requests.slice(0, 2), ['upgrade', 'upgrade']);

  const acks = [];
  const sends = [];
  for (const text of numbers(300)) {
    sends.push(rooms[0].send(text).then(({ seq }) => acks.push(seq)));
    if (text === '100') proxies[0].cut();
    if (text === '150') proxies[1].cut();
    if (text === '200') {
      await servers[0].kill();
      proxies[0].target = servers[1];
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await Promise.all(sends);
  for (const ears of heard) {
    await until(() => ears.texts.length >= 300, () => `all, not ${ears.texts.length}`);
    assertWhole(ears, numbers(300));
  }
  assert.deepEqual(acks, heard[0].seqs);
});

test('data, signals, history and refusals are those of a WebSocket', async (t) => {
  const server = await Server.start(t);
  // Node 20 has no WebSocket of its own, and here none is needed.
  const ann = client(t, server, { ...OVER_HTTP, WebSocket: undefined });
  const room = ann.join('lobby:1.a~b-c_d');
  const bob = client(t, server, { username: 'bob' }).join('lobby:1.a~b-c_d');
  const heard = [];
  const signals = [];
  const broadcasts = [];
  ann.on('broadcast', ({ text }) => broadcasts.push(text));
  bob.on('message', ({ text, data, event }) => heard.push({ text, data, event }));
  for (const each of [room, bob]) each.on('signal', ({ username, event, data }) => signals.push([username, event, data]));
  await Promise.all([joined(room), joined(bob)]);
  const said = [
    { text: 'both', data: { a: [1, 'ä'] }, event: 'e' },
    { text: undefined, data: 7, event: undefined },
  ];
  for (const each of said) assert.ok((await room.send(each)).seq);
  await until(() => heard.length === 2, 'both');
  assert.deepEqual(heard, said);
  room.signal('of ann', [1]);
  await until(() => signals.length === 1, 'what ann signals');
  bob.signal('of bob');
  await until(() => signals.length === 2, 'what bob signals');
  assert.deepEqual(signals, [['ann', 'of ann', [1]], ['bob', 'of bob', undefined]], 'nobody hears its own');
  // An answer to one is no answer to the other.
  for (let n = 0; n < 20; n++) {
    const kept = room.send({ data: 7 });
    for (let more = 0; more < 5; more++) room.signal('typing');
    assert.equal((await kept)?.seq, 3 + n);
  }
  const { messages, hasMore } = await room.history({ limit: 1 });
  assert.deepEqual([messages.map(({ data, seq }) => [data, seq]), hasMore], [[[7, 22]], true]);
  assert.deepEqual((await room.history({ before: { ...messages[0], seq: 2 } })).messages.map(({ text }) => text), ['both']);
  await assert.rejects(room.history({ limit: 0 }), { code: 'bad_field' });
  await assert.rejects(room.send('x'.repeat(17 << 10)), { code: 'text_too_long', maybeKept: false });
  await assert.rejects(room.send({ event: 'nothing' }), { code: 'missing_field' });
  assert.equal((await room.send('after all that')).seq, 23);
  const other = new WebSocket(server.url);
  other.on('open', () => other.send('{"type":"broadcast","text":"all"}'));
  await until(() => broadcasts.length, 'the broadcast');
  other.terminate();
  const second = ann.join('other', { username: 'Ann' });
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(second.state.name, 'joining', 'a stream has one name');
  room.leave();
  await joined(second);
  const refused = client(t, server, { ...OVER_HTTP, username: '\u200b' }).join('lobby:1.a~b-c_d');
  await assert.rejects(refused.send('x'), { code: 'bad_username' });
});

test('rooms come and go without a loss in the others, each with the history that it asked for', { timeout: 60_000 }, async (t) => {
  const server = await Server.start(t);
  const bob = client(t, server, { username: 'bob' });
  const said = { a: 0, b: 0, c: 0 };
  const say = (name) => bob.join(name).send(String(said[name]++));
  for (const name of ['a', 'b', 'c']) for (let n = 0; n < 20; n++) await say(name);
  const proxy = await Proxy.start(t, server);
  const chat = client(t, proxy, OVER_HTTP);
  const room = chat.join('a', { last: 5 });
  const heard = listen(room);
  const [b, c] = ['b', 'c'].map((name) => chat.join(name, name === 'b' ? { last: 12 } : {}));
  const [ofB, ofC] = [listen(b), listen(c)];
  await Promise.all([room, b, c].map(joined));
  assert.deepEqual([heard.texts, ofB.texts, ofC.texts], [numbers(5, 15), numbers(12, 8), []]);
  const talk = (async () => {
    for (let n = 0; n < 200; n++) await Promise.all([say('a'), say('c')]);
  })();
  b.leave();
  for (let n = 0; n < 10; n++) {
    const again = chat.join('b', { last: n });
    const ears = listen(again);
    await joined(again);
    assert.deepEqual(ears.texts, numbers(n, 20 - n));
    if (n === 5) proxy.cut();
    again.leave();
  }
  await talk;
  await until(() => heard.texts.length === 205 && ofC.texts.length === 200, () => `all, not ${heard.texts.length} and ${ofC.texts.length}`);
  assertWhole(heard, numbers(205, 15));
  assertWhole(ofC, numbers(200, 20));
  for (const each of [room, c]) each.leave();
  const metrics = async () => (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
  // Bob's alone is left.
  await until(async () => /^ws_connected_clients 1$/m.test(await metrics()), 'no stream is left');
  assert.equal(chat.transport, 'stream');
  assert.equal((await chat.join('a').send('once more')).seq, 221);
});

test('when WebSockets get through again it comes back to one, and nothing is lost or doubled', { timeout: 60_000 }, async (t) => {
  const server = await Server.start(t);
  const proxy = await blocking(t, server);
  let ahead = 0;
  let visit = () => {};
  const environment = { now: () => Date.now() + ahead, random: () => 0, isOnline: () => true, watch: (listener) => (visit = listener) };
  const chat = new Client(proxy.url, { username: 'ann', WebSocket }, environment);
  t.after(() => chat.close());
  const room = chat.join('lobby');
  const heard = listen(room);
  const watcher = listen(client(t, server, { username: 'bob' }).join('lobby'));
  await Promise.all([joined(room), until(() => watcher.joins, 'bob is in')]);
  assert.equal(chat.transport, 'stream');
  // Somebody looks at the page: the stream is proven by another one, and not dropped.
  visit();
  await until(() => proxy.requests.filter((request) => request.startsWith('GET /v1/events')).length === 2, 'the proof');
  let said = 0;
  let isOver = false;
  const talk = (async () => {
    while (!isOver) {
      await room.send(String(said++));
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  })();
  const upgrades = () => proxy.requests.filter((request) => request === 'upgrade').length;
  ahead += 31_000;
  await until(() => upgrades() === 3, 'it has tried');
  assert.equal(chat.transport, 'stream', 'in vain');
  // Now one opens, but nothing gets through.
  proxy.blocks = undefined;
  const { drops } = proxy;
  const mute = new Set();
  const { onData } = proxy;
  let of;
  proxy.onData = (direction, data, pair) => {
    onData(direction, data, pair);
    of = mute.has(pair) && pair;
    if (String(data).startsWith('HTTP/1.1 101')) mute.add(pair);
  };
  proxy.drops = () => of;
  ahead += 61_000;
  await until(() => mute.size === 1, 'one is open');
  const before = said;
  await until(() => said > before + 50, 'the talk goes on');
  assert.equal(chat.transport, 'stream');
  proxy.onData = onData;
  proxy.drops = drops;
  ahead += 121_000;
  await isOn(chat, 'websocket');
  const { length } = proxy.requests;
  await until(() => said > before + 150, 'the talk goes on');
  isOver = true;
  await talk;
  assert.equal(proxy.requests.length, length, 'there are no requests any more');
  for (const ears of [heard, watcher]) {
    await until(() => ears.texts.length >= said, 'all');
    assertWhole(ears, numbers(said));
  }
});

test('it goes back and forth under load, and cuts in between, and nothing is lost or doubled', { timeout: 120_000 }, async (t) => {
  const server = await Server.start(t);
  const proxy = await blocking(t, server);
  let ahead = 0;
  const environment = { now: () => Date.now() + ahead, random: () => 0, isOnline: () => true, watch: () => {} };
  const chat = new Client(proxy.url, { username: 'ann', WebSocket }, environment);
  t.after(() => chat.close());
  const names = ['a', 'b', 'c'];
  const rooms = names.map((name) => chat.join(name));
  const bob = client(t, server, { username: 'bob' });
  const heard = rooms.map(listen);
  const theirs = names.map((name) => listen(bob.join(name)));
  await Promise.all([...rooms.map(joined), until(() => theirs.every(({ joins }) => joins), 'bob is in')]);
  let said = 0;
  let isOver = false;
  const talk = (async () => {
    while (!isOver) {
      const text = String(said++);
      await Promise.all(rooms.map((room) => room.send(text)));
      rooms[0].signal('typing');
    }
  })();
  const goOn = async (more) => {
    const goal = said + more;
    await until(() => said > goal, () => `the talk goes on by ${chat.transport} ${JSON.stringify(chat.state)}`);
  };
  for (let round = 0; round < 6; round++) {
    await isOn(chat, 'stream');
    await goOn(10);
    const other = chat.join(`other-${round}`, { last: 3 });
    if (round % 2) proxy.cut();
    await goOn(10);
    await joined(other);
    other.leave();
    proxy.blocks = undefined;
    ahead += 700_000;
    await isOn(chat, 'websocket');
    await goOn(10);
    proxy.blocks = round % 2 ? 'refuse' : 'reset';
    proxy.cut();
  }
  isOver = true;
  await talk;
  for (const ears of [...heard, ...theirs]) {
    await until(() => ears.texts.length >= said, 'all');
    assertWhole(ears, numbers(said));
  }
});

/** Keeps back what the next streams bring, although the server has begun them. */
function holding(proxy) {
  const held = [];
  proxy.onData = (direction, data, [, server]) => {
    if (direction !== 'up' || !/^GET \/v1\/events/.test(String(data))) return;
    server.pause();
    held.push(server);
  };
  const release = () => {
    proxy.onData = undefined;
    for (const server of held) server.resume();
  };
  return { held, release };
}

test('two streams that overlap bring nothing twice', async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.start(t, server);
  const chat = client(t, proxy, OVER_HTTP);
  const broadcasts = [];
  chat.on('broadcast', ({ text }) => broadcasts.push(text));
  const room = chat.join('a');
  const heard = listen(room);
  await joined(room);
  const { release } = holding(proxy);
  const other = chat.join('b');
  const metrics = async () => (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
  await until(async () => /^ws_connected_clients 2$/m.test(await metrics()), 'the next stream has begun');
  const bob = new WebSocket(server.url);
  await once(bob, 'open');
  const say = (frame) => bob.send(JSON.stringify(frame));
  say({ type: 'join', room: 'a', username: 'bob' });
  for (const text of ['0', '1']) {
    say({ type: 'broadcast', text });
    say({ type: 'message', room: 'a', text });
  }
  await until(() => broadcasts.length === 2 && heard.texts.length === 2, 'they come by the first');
  release();
  await joined(other);
  say({ type: 'broadcast', text: '2' });
  say({ type: 'message', room: 'a', text: '2' });
  await until(() => broadcasts.at(-1) === '2' && heard.texts.at(-1) === '2', 'they come by the second');
  bob.terminate();
  assert.deepEqual(broadcasts, numbers(3));
  assertWhole(heard, numbers(3));
});

test('what a stream says of a room that was joined anew since does not count', async (t) => {
  const server = await Server.start(t);
  const bob = client(t, server, { username: 'bob' }).join('b');
  for (const text of numbers(10)) await bob.send(text);
  const proxy = await Proxy.start(t, server);
  const chat = client(t, proxy, OVER_HTTP);
  const before = chat.join('b');
  await joined(before);
  const { held, release } = holding(proxy);
  before.leave();
  const room = chat.join('b', { last: 5 });
  const heard = listen(room);
  await until(() => held.length === 1, 'it asks for the room anew');
  await bob.send('10');
  await new Promise((resolve) => setTimeout(resolve, 50));
  // Another stream, from where this one is by now.
  chat.join('c');
  await until(() => held.length === 2, 'and again');
  release();
  await joined(room);
  await bob.send('11');
  await until(() => heard.texts.at(-1) === '11', 'the last');
  assertWhole(heard, numbers(6, 6));
});

test('a network that falls silent is noticed, and costs nothing', { timeout: 60_000 }, async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.start(t, server);
  let ahead = 0;
  const environment = { now: () => Date.now() + ahead, random: () => 0, isOnline: () => true, watch: () => {} };
  const chat = new Client(proxy.url, { username: 'ann', ...OVER_HTTP, WebSocket }, environment);
  t.after(() => chat.close());
  const bob = client(t, server, { username: 'bob' }).join('lobby');
  const room = chat.join('lobby');
  const heard = listen(room);
  await joined(room);
  await room.send('0');
  proxy.hold();
  const own = room.send('1');
  const others = bob.send('2');
  const before = heard.joins;
  // At each look the clock has gone on a little more than a machine that is awake can account for.
  const clock = setInterval(() => (ahead += 16_000), 1000);
  t.after(() => clearInterval(clock));
  await until(() => chat.state.name === 'waiting' || chat.state.name === 'connecting', 'it has given up');
  clearInterval(clock);
  proxy.release();
  await Promise.all([own, others]);
  await until(() => heard.texts.length === 3 && heard.joins > before, 'all three');
  assertWhole(heard, heard.texts);
  assert.deepEqual([...heard.texts].sort(), numbers(3));
});

test('a token is shown, renewed and refused as on a WebSocket', { timeout: 60_000 }, async (t) => {
  const server = await Server.start(t, KEYED);
  let lasts = 4;
  const given = [];
  const getToken = () => {
    given.push(token('ann', undefined, { lasts }));
    lasts = 3600;
    return given.at(-1);
  };
  const chat = client(t, server, { ...OVER_HTTP, username: undefined, getToken });
  const whos = [];
  const states = [];
  chat.on('authenticated', ({ username }) => whos.push(username));
  chat.on('state', ({ name }) => states.push(name));
  const room = chat.join('lobby');
  const heard = listen(room);
  let own = 0;
  room.on('signal', () => own++);
  assert.equal((await room.send('one')).seq, 1);
  room.signal('typing');
  await until(() => given.length === 2 && whos.length === 2, 'the next token');
  await new Promise((resolve) => setTimeout(resolve, 3000));
  assert.equal((await room.send('two')).seq, 2);
  await until(() => heard.texts.length === 2, 'both');
  assertWhole(heard, ['one', 'two']);
  assert.deepEqual([whos, states, own], [['ann', 'ann'], ['connecting', 'open'], 0]);

  const named = client(t, server, { ...OVER_HTTP, getToken: () => token('eve') });
  await assert.rejects(named.join('lobby').send('x'), { code: 'forbidden' }, 'ann is not eve');
  const forbidden = client(t, server, { ...OVER_HTTP, username: undefined, getToken: () => token('eve', { rooms: { lobby: ['join'] } }) });
  const [lobby, other] = ['lobby', 'other'].map((name) => forbidden.join(name));
  await assert.rejects(other.send('x'), { code: 'forbidden' });
  await joined(lobby);
  await assert.rejects(lobby.send('x'), { code: 'forbidden', right: 'send' });

  const wrong = client(t, server, { ...OVER_HTTP, username: undefined, getToken: () => token('eve', undefined, { secret: 'another secret, of 32 bytes at least' }) });
  await assert.rejects(wrong.join('lobby').send('x'), { code: 'unauthorized' });
  assert.equal(wrong.state.error.code, 'unauthorized');
});

test('a server that stops is left, and a Redis that is away costs nothing', { timeout: 60_000 }, async (t) => {
  const redis = await Redis.start(t);
  const servers = [await Server.start(t, { redis }), await Server.start(t, { redis })];
  const proxy = await Proxy.start(t, servers[0]);
  const chat = client(t, proxy, OVER_HTTP);
  const room = chat.join('lobby');
  const heard = listen(room);
  const whys = [];
  chat.on('state', ({ why }) => why && whys.push(why));
  await joined(room);
  await room.send('0');
  await redis.kill();
  const during = room.send('1');
  await new Promise((resolve) => setTimeout(resolve, 1500));
  await redis.start();
  await during;
  await servers[0].drain();
  proxy.target = servers[1];
  await room.send('2');
  await until(() => heard.texts.length === 3, 'all three');
  assertWhole(heard, numbers(3));
  assert.match(String(whys), /service_restart/);
});
