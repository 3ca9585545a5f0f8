// Who the client is, and for how long: tokens, with servers that have keys.
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from '../src/client.js';
import { assertWhole, client, joined, listen, numbers } from './support/rooms.js';
import { Proxy, Server, until } from './support/servers.js';
import { settle, sockets } from './support/socket.js';
import { ALL, KEYED, token } from './support/tokens.js';

/** A client that is who its tokens say. */
function holder(t, server, getToken, options = {}) {
  const chat = client(t, server, { username: undefined, getToken, ...options });
  const states = [];
  const welcomes = [];
  chat.on('state', (state) => states.push(state));
  chat.on('authenticated', (welcome) => welcomes.push(welcome));
  return { chat, states, welcomes };
}

const names = (states) => states.map(({ name }) => name).filter((name) => name !== 'connecting');

/** The commands that pass a proxy, by type; a frame of a client is masked. */
function commands(proxy) {
  const sent = [];
  proxy.onData = (direction, data) => {
    if (direction !== 'up' || data[0] !== 0x81) return;
    for (let at = 0; at < data.length; ) {
      const short = data[at + 1] & 0x7f;
      const [length, key] = short === 126 ? [data.readUInt16BE(at + 2), at + 4] : [short, at + 2];
      const text = data.subarray(key + 4, key + 4 + length).map((byte, index) => byte ^ data[key + (index % 4)]);
      sent.push(JSON.parse(String(text)));
      at = key + 4 + length;
    }
  };
  return sent;
}

test('a token says who the client is, and to which rooms it may go', async (t) => {
  const server = await Server.start(t, KEYED);
  const rights = { rooms: { lobby: ['join', 'send'], quiet: ['join'] }, auto_join: ['news'] };
  const { chat, welcomes } = holder(t, server, () => token('ann', rights));
  const heard = [];
  const lobby = chat.join('lobby');
  lobby.on('message', ({ username }) => heard.push(username));
  await lobby.send('hello');
  await until(() => heard.length, 'the own message');
  assert.deepEqual(heard, ['ann']);
  const [{ username, expiresMs, rooms }] = welcomes;
  assert.deepEqual([username, rooms, welcomes.length], ['ann', ['news'], 1]);
  assert.ok(expiresMs > 3_590_000 && expiresMs <= 3_600_000, `${expiresMs}`);

  for (const [room, options, right] of [['other', {}, 'join'], ['lobby2', {}, 'join'], ['quiet', { last: 5 }, 'history']]) {
    const refused = chat.join(room, options);
    await assert.rejects(refused.send('hello'), { code: 'forbidden', right, maybeKept: false });
    assert.deepEqual([refused.state.name, refused.state.error.right], ['left', right]);
  }
  const quiet = chat.join('quiet');
  await assert.rejects(quiet.send('hello'), { code: 'forbidden', right: 'send', maybeKept: false });
  assert.equal(quiet.state.name, 'joined');
  const stolen = chat.join('stolen', { username: 'bob' });
  await assert.rejects(stolen.send('hello'), { code: 'forbidden', right: undefined });
  assert.equal((await lobby.send('still here')).seq, 2);
});

test('another token goes out before one ends, and nothing is interrupted', { timeout: 60_000 }, async (t) => {
  const server = await Server.start(t, KEYED);
  const proxy = await Proxy.start(t, server);
  let asked = 0;
  const getToken = async () => {
    asked += 1;
    // One fails; the next one is asked for while the token is still good.
    if (asked === 3) throw new Error('the back end is away for a moment');
    return token('ann', ALL, { lasts: 4 });
  };
  const { chat, states, welcomes } = holder(t, proxy, getToken);
  const room = chat.join('lobby');
  const heard = listen(room);
  const interruptions = [];
  await joined(room);
  room.on('state', (state) => interruptions.push(state));
  const texts = numbers(70);
  for (const text of texts) {
    await room.send(text);
    await sleep(100);
  }
  assertWhole(heard, texts);
  assert.ok(asked >= 4, `it asked ${asked} times`);
  assert.ok(welcomes.length >= 3, `${welcomes.length} tokens were taken`);
  assert.deepEqual([names(states), interruptions, proxy.accepted], [['open'], [], 1]);
});

test('a client whose token has ended comes back with another one, and has missed nothing', { timeout: 60_000 }, async (t) => {
  const server = await Server.start(t, KEYED);
  let isAway = false;
  const getToken = async () => {
    if (isAway) throw new Error('the back end is away');
    return token('ann', ALL, { lasts: 2 });
  };
  const { chat, states } = holder(t, server, getToken);
  const room = chat.join('lobby');
  const heard = listen(room);
  await joined(room);
  const bob = holder(t, server, () => token('bob')).chat.join('lobby');
  isAway = true;
  await until(() => states.some(({ name }) => name === 'waiting'), 'the token ends');
  assert.match(states.find(({ name }) => name === 'waiting').why, /token_expired/);
  await bob.send('missed');
  isAway = false;
  await until(() => heard.texts.length, 'it is back');
  assertWhole(heard, ['missed']);
});

test('a token that has ended before it is shown is said to have, and another one is asked for', async (t) => {
  const server = await Server.start(t, KEYED);
  const lives = [-60, 3600];
  const { chat, states } = holder(t, server, () => token('ann', ALL, { lasts: lives.shift() }));
  await joined(chat.join('lobby'));
  const { error, why } = states.find(({ name }) => name === 'waiting');
  assert.deepEqual([error.code, why], ['unauthorized', error.message]);
  assert.match(why, /ended 6\d s ago/);
});

test('a fresh token that is refused ends the client, with what the server says', async (t) => {
  const server = await Server.start(t, KEYED);
  let asked = 0;
  const getToken = () => (asked++, token('ann', ALL, { secret: 'another secret, which the server does not know' }));
  const { chat, states } = holder(t, server, getToken);
  const room = chat.join('lobby');
  await assert.rejects(room.send('hello'), { code: 'unauthorized', message: /not of a key of this server/ });
  assert.deepEqual([names(states), asked], [['open', 'closed'], 1]);
  assert.equal(chat.state.error.code, 'unauthorized');
  assert.match(chat.state.why, /4501 .*not of a key of this server/);
  assert.equal(room.state.error, chat.state.error);
  assert.throws(() => chat.join('other'), { code: 'unauthorized' });
  await assert.rejects(async () => {
    for await (const _ of room);
  }, { code: 'unauthorized' });
});

test('without a token a server with keys refuses the room, and says why', async (t) => {
  const server = await Server.start(t, KEYED);
  const room = client(t, server).join('lobby');
  await assert.rejects(room.send('hello'), { code: 'unauthorized', message: /show who you are/ });
});

test('an end of all tokens ends the client, at the door and on an open connection', { timeout: 30_000 }, async (t) => {
  const server = await Server.start(t, KEYED);
  const errors = [
    Object.assign(new Error('you are signed out'), { code: 'unauthorized' }),
    Object.assign(new Error('you are signed out'), { name: 'UnauthorizedError' }),
  ];
  for (const error of errors) {
    for (const tokens of [[], [token('ann', ALL, { lasts: 2 })]]) {
      let asked = 0;
      const getToken = async () => tokens[asked++] ?? Promise.reject(error);
      const { chat, states } = holder(t, server, getToken);
      const room = chat.join('lobby');
      await until(() => chat.state.name === 'closed', 'it is closed');
      assert.deepEqual([chat.state.why, chat.state.error.code], ['you are signed out', 'unauthorized']);
      assert.equal(room.state.error, chat.state.error);
      assert.equal(names(states).filter((name) => name === 'waiting').length, 0);
      await sleep(300);
      assert.equal(asked, tokens.length + 1);
    }
  }
  const metrics = async () => (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
  await until(async () => /^ws_connected_clients 0$/m.test(await metrics()), 'no socket remains');
});

test('tokens of two users are not of one client', async (t) => {
  const server = await Server.start(t, KEYED);
  const proxy = await Proxy.start(t, server);
  const users = ['ann', 'ann', 'bob'];
  const { chat, welcomes } = holder(t, proxy, () => token(users.shift()));
  const room = chat.join('lobby');
  await joined(room);
  proxy.cut();
  await until(() => welcomes.length === 2, 'it is back');
  await joined(room);
  proxy.cut();
  await until(() => chat.state.name === 'closed', 'it is closed');
  assert.equal(chat.state.error.code, 'unauthorized');
  assert.match(chat.state.why, /bob.*ann/);
});

test('a token that allows less ends the rooms that it does not allow, and no others', { timeout: 30_000 }, async (t) => {
  const server = await Server.start(t, KEYED);
  const rights = [{ rooms: { a: ['*'], b: ['*'] } }, { rooms: { a: ['*'] } }];
  const { chat } = holder(t, server, () => token('ann', rights.length > 1 ? rights.shift() : rights[0], { lasts: 3 }));
  const [a, b] = [chat.join('a'), chat.join('b')];
  await Promise.all([a.send('x'), b.send('x')]);
  await until(() => b.state.name === 'left', 'it is put out');
  assert.deepEqual([b.state.error.code, a.state.name], ['forbidden', 'joined']);
  await assert.rejects(b.send('y'), { code: 'forbidden' });
  assert.equal((await a.send('y')).seq, 2);
  await assert.rejects(chat.join('b').send('z'), { code: 'forbidden', right: 'join' });
});

test('whoever may not read the past comes back all the same, and is told of the gap', async (t) => {
  const server = await Server.start(t, KEYED);
  const proxy = await Proxy.start(t, server);
  const { chat } = holder(t, proxy, () => token('ann', { rooms: { lobby: ['join', 'send'] } }));
  const room = chat.join('lobby');
  const heard = listen(room);
  await joined(room);
  const bob = holder(t, server, () => token('bob')).chat.join('lobby');
  proxy.refuses = true;
  proxy.cut();
  await bob.send('missed');
  proxy.refuses = false;
  assert.equal((await room.send('here')).seq, 2);
  await until(() => heard.texts.length, 'the own message');
  assert.deepEqual(heard.texts, ['here']);
  assert.deepEqual(heard.resets.map(({ after, upTo, reason }) => [after.seq, upTo.seq, reason]), [[0, 1, 'forbidden']]);
});

test('rooms that the server joins by itself are there when they are asked for', async (t) => {
  const server = await Server.start(t, KEYED);
  const proxy = await Proxy.start(t, server);
  const sent = commands(proxy);
  const rights = { rooms: { news: ['history', 'send'], plain: ['send', 'history'] }, auto_join: ['news', 'plain'] };
  const bob = holder(t, server, () => token('bob')).chat;
  const [news, plain] = [bob.join('news'), bob.join('plain')];
  for (const text of numbers(3)) await news.send(text);
  for (const text of numbers(3)) await plain.send(text);
  const { chat, welcomes } = holder(t, proxy, () => token('ann', rights));
  await until(() => welcomes.length, 'it is in');
  await sleep(200);
  for (const room of [news, plain]) await room.send('3');
  await sleep(100);

  // Without a wish for the past, the server's own membership is it.
  const adopted = chat.join('plain');
  const heardInPlain = listen(adopted);
  await joined(adopted);
  assert.equal(adopted.position.seq, 4, 'what was said before anybody asked is not missed');
  assert.deepEqual(sent.map(({ type }) => type), ['ping']);
  // With one, it is asked for.
  const asked = chat.join('news', { last: 2 });
  const heardInNews = listen(asked);
  await joined(asked);
  assert.deepEqual(heardInNews.texts, ['2', '3']);
  assert.deepEqual(sent.at(-1), { type: 'join', room: 'news', last: 2 });

  for (const text of numbers(3, 4)) await Promise.all([news.send(text), plain.send(text)]);
  await until(() => heardInNews.texts.length === 5 && heardInPlain.texts.length === 3, 'all');
  proxy.refuses = true;
  proxy.cut();
  for (const text of numbers(3, 7)) await Promise.all([news.send(text), plain.send(text)]);
  proxy.refuses = false;
  await until(() => heardInNews.texts.length === 8 && heardInPlain.texts.length === 6, 'what was missed');
  for (const room of [adopted, asked]) assert.ok((await room.send('own')).seq);
  await until(() => heardInNews.texts.length === 9 && heardInPlain.texts.length === 7, 'and goes on');
  assertWhole(heardInPlain, [...numbers(6, 4), 'own']);
  assertWhole(heardInNews, [...numbers(8, 2), 'own']);

  // A room that was left is joined anew.
  adopted.leave();
  await sleep(100);
  const again = chat.join('plain', { last: 1 });
  const heard = listen(again);
  await joined(again);
  assert.deepEqual(heard.texts, ['own']);
});

test('rooms that are asked for before the server has joined them come once and whole', { timeout: 60_000 }, async (t) => {
  const server = await Server.start(t, KEYED);
  const rights = { rooms: { news: ['history'] }, auto_join: ['a', 'b', 'news', 'c', 'd'] };
  const news = holder(t, server, () => token('bob')).chat.join('news');
  for (const text of numbers(20)) await news.send(text);
  for (const [round, wait] of [0, 0, 1, 2, 3, 5, 8, 13, 20, 40].entries()) {
    const { chat } = holder(t, server, () => token('ann', rights));
    if (round) await sleep(wait);
    const other = chat.join('a');
    const room = chat.join('news', { last: 100 });
    const heard = listen(room);
    const saying = news.send(`${20 + round}`);
    await Promise.all([joined(room), joined(other), saying]);
    await until(() => heard.texts.length === 21 + round, () => `all, not ${heard.texts}`);
    assertWhole(heard, numbers(21 + round));
    chat.close();
  }
});

/** A client on sockets of the test's own. */
async function lone(t, options) {
  mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  t.after(() => mock.timers.reset());
  const { made, Socket } = sockets();
  const environment = { now: () => Date.now(), random: () => 0.5, isOnline: () => true, watch: () => {} };
  const chat = new Client('ws://nowhere', { WebSocket: Socket, ...options }, environment);
  t.after(() => chat.close());
  await settle();
  const say = (frame) => made.at(-1).listeners.message({ data: JSON.stringify(frame) });
  const open = () => made.at(-1).listeners.open({});
  const refuse = (code) => {
    say({ type: 'error', code: 'unauthorized', message: 'no' });
    made.at(-1).listeners.close({ code, reason: 'unauthorized' });
  };
  return { chat, made, say, open, refuse };
}

const welcome = { type: 'authenticated', username: 'ann', expires_ms: 60_000, rooms: [] };

test('a token that was good once and is refused later is replaced', async (t) => {
  let asked = 0;
  const { chat, made, say, open, refuse } = await lone(t, { getToken: () => `token-${++asked}` });
  open();
  say(welcome);
  refuse(4501);
  assert.deepEqual([chat.state.name, chat.state.error.message], ['waiting', 'no']);
  mock.timers.tick(1000);
  await settle();
  assert.deepEqual([made.length, asked], [2, 2]);
  open();
  refuse(4501);
  assert.deepEqual([chat.state.name, chat.state.error.code, chat.state.error.message], ['closed', 'unauthorized', 'no']);
});

test('without `getToken` nobody has another one', async (t) => {
  const { chat, open, refuse } = await lone(t, { username: 'ann' });
  open();
  refuse(4501);
  assert.deepEqual([chat.state.name, chat.state.error.code], ['closed', 'unauthorized']);
});

test('before a token ends, another one is asked for, twice at most, and shown only if it is another', async (t) => {
  const tokens = ['one', 'one', 'two', new Error('away'), new Error('away'), 'three'];
  const getToken = async () => {
    const next = tokens.shift();
    if (next instanceof Error) throw next;
    return next;
  };
  const { made, say, open } = await lone(t, { getToken });
  const shown = () => made[0].sent.map((data) => JSON.parse(data)).filter(({ type }) => type === 'auth').map(({ token }) => token);
  open();
  say(welcome);
  for (const [wait, expected, left] of [[0, [], 4], [9000, [], 4], [1000, ['two'], 3]]) {
    if (!wait) say({ type: 'expiring', in_ms: 30_000 });
    mock.timers.tick(wait);
    await settle();
    assert.deepEqual([shown(), tokens.length], [expected, left]);
  }
  say(welcome);
  say({ type: 'expiring', in_ms: 30_000 });
  await settle();
  mock.timers.tick(10_000);
  await settle();
  for (let minutes = 0; minutes < 10; minutes++) {
    mock.timers.tick(1000);
    await settle();
  }
  assert.deepEqual([shown(), tokens], [['two'], ['three']]);
});

test('a token that comes too late is shown to nobody', async (t) => {
  const waiting = [];
  const getToken = ({ signal }) => new Promise((resolve) => waiting.push({ resolve, signal }));
  const { chat, made, say, open } = await lone(t, { getToken });
  waiting[0].resolve('one');
  await settle();
  open();
  say(welcome);
  say({ type: 'expiring', in_ms: 30_000 });
  await settle();
  made[0].listeners.close({ code: 4010, reason: 'token_expired' });
  assert.ok(waiting[1].signal.aborted);
  waiting[1].resolve('two');
  mock.timers.tick(0);
  await settle();
  assert.equal(made[0].sent.filter((data) => data.includes('auth')).length, 0);
  assert.equal(waiting.length, 3, 'it comes back at once');
  chat.close();
  assert.ok(waiting[2].signal.aborted);
});
