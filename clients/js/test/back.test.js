// When it comes back, and with what: notices, refusals, silence, tokens.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { client, joined } from './support/rooms.js';
import { Proxy, Redis, Server, until } from './support/servers.js';

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
  const whys = [];
  chat.on('state', ({ why }) => why && whys.push(why));
  proxy.hold();
  const kept = room.send('into the void');
  await until(() => whys.length, 'it is noticed', { within: 40_000 });
  assert.match(whys[0], /silent/);
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
