// Servers, Redis and networks that break under the client, and cost nobody a message.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { assertWhole, client, joined, listen, numbers } from './support/rooms.js';
import { Proxy, Redis, Server, until } from './support/servers.js';

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
