// The client with real servers that nothing happens to.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import WebSocket from 'ws';
import { client, joined, listen, numbers } from './support/rooms.js';
import { Server, until } from './support/servers.js';

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

test('data and events come as they were sent, signals reach the others, and history pages back', async (t) => {
  const server = await Server.start(t);
  const ann = client(t, server).join('lobby');
  const bob = client(t, server, { username: 'bob' }).join('lobby');
  const heard = [];
  const signals = [];
  bob.on('message', ({ text, data, event }) => heard.push({ text, data, event }));
  for (const [name, room] of Object.entries({ ann, bob })) {
    room.on('signal', ({ username, event, data }) => signals.push([name, username, event, data]));
  }
  await Promise.all([joined(ann), joined(bob)]);
  const said = [
    { text: 'both', data: { order: 17, '2': [null, -0.5e-7] }, event: 'order.paid' },
    { text: undefined, data: false, event: undefined },
    { text: '', data: undefined, event: 'empty' },
  ];
  for (const each of said) await ann.send(each);
  ann.signal('cursor', { x: 1 });
  ann.signal('typing');
  await until(() => signals.length === 2 && heard.length === 3, 'all of it');
  assert.deepEqual(heard, said);
  assert.deepEqual(signals, [['bob', 'ann', 'cursor', { x: 1 }], ['bob', 'ann', 'typing', undefined]]);
  let deep = 1;
  for (let level = 0; level < 200; level++) {
    deep = [deep];
    // Up to where the server cannot read it at all.
    if (level > 63 && level % 9 === 0) await assert.rejects(ann.send({ data: deep }), { code: 'bad_field', maybeKept: false });
  }
  await assert.rejects(ann.send({ event: 'nothing' }), { code: 'missing_field', maybeKept: false });

  // Another client's, as nobody has told this one the epoch of the room yet.
  const cleo = client(t, server, { username: 'cleo' }).join('lobby');
  const last = await cleo.history({ limit: 2 });
  assert.deepEqual([last.messages.map(({ seq, data }) => [seq, data]), last.hasMore], [[[2, false], [3, undefined]], true]);
  const first = await cleo.history({ before: last.messages[0] });
  assert.deepEqual([first.messages.map(({ text }) => text), first.hasMore], [['both'], false]);
  assert.equal(first.messages[0].epoch, cleo.position.epoch);
  await assert.rejects(cleo.history({ limit: -1 }), { code: 'bad_field' });
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
  assert.equal(room.state.name, 'left');
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

test('close ends all at once, and an AbortSignal closes', async (t) => {
  const server = await Server.start(t);
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
  await assert.rejects(room.send('late'), { code: 'closed' });
  assert.throws(() => chat.join('other'), { code: 'closed' });
  const metrics = async () => (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
  await until(async () => /^ws_connected_clients 0$/m.test(await metrics()), 'the server has no client');
  assert.deepEqual(events, []);
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
