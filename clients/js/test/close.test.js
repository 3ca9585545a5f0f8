// Nothing outlives close: no timer, no socket, no listener, in whatever state the client was.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Client } from '../src/client.js';
import { settle, sockets } from './support/socket.js';

/** Every timer that runs, for the time of the test. */
function timers(t) {
  const running = new Set();
  const { setTimeout, clearTimeout } = globalThis;
  t.mock.method(globalThis, 'setTimeout', (callback, time) => {
    const timer = setTimeout(() => (running.delete(timer), callback()), time);
    running.add(timer);
    return timer;
  });
  t.mock.method(globalThis, 'clearTimeout', (timer) => (running.delete(timer), clearTimeout(timer)));
  return running;
}

const gap = [
  { type: 'joined', room: 'lobby', epoch: 'e', seq: 0, resumed: false, until: 9 },
  { type: 'reset', room: 'lobby', epoch: 'e', seq: 5, reason: 'trimmed' },
];

/** What brings a client into each state that it can be closed in. */
const states = {
  'before anything': () => {},
  'while the store is read': () => {},
  connecting: settle,
  'while a token is asked for': settle,
  open: async ([socket]) => (await settle(), socket()?.listeners.open({})),
  'while the next token is asked for': async ([socket]) => {
    await settle();
    socket().listeners.open({});
    socket().listeners.message({ data: '{"type":"expiring","in_ms":30000}' });
    await settle();
  },
  'while it waits to ask once more for the next token': async ([socket]) => {
    await settle();
    socket().listeners.open({});
    socket().listeners.message({ data: '{"type":"expiring","in_ms":30000}' });
    await settle();
  },
  'with a message on the way': async ([socket, , room]) => {
    await settle();
    socket().listeners.open({});
    socket().listeners.message({ data: JSON.stringify({ type: 'joined', room: 'lobby', epoch: 'e', seq: 0 }) });
    room.send('hello').catch(() => {});
  },
  'while a gap is loaded': async ([socket]) => {
    await settle();
    socket().listeners.open({});
    for (const frame of gap) socket().listeners.message({ data: JSON.stringify(frame) });
    await settle();
  },
  waiting: async ([socket]) => {
    await settle();
    socket().isOpen = false;
    socket().listeners.close({ code: 1006, reason: '' });
  },
  offline: async ([, world]) => (await settle(), world(false)),
};

/** Where tokens come from, if they come. */
const once = (then) => {
  let asked = 0;
  return () => (asked++ ? then() : 'token');
};
const tokens = {
  'while the next token is asked for': once(() => new Promise(() => {})),
  'while it waits to ask once more for the next token': once(() => Promise.reject(new Error('away'))),
};

for (const [name, bring] of Object.entries(states)) {
  test(`nothing outlives a client that is closed ${name}`, async (t) => {
    const running = timers(t);
    const { made, Socket } = sockets();
    const watching = new Set();
    let online = true;
    let world;
    const environment = {
      now: () => Date.now(),
      random: () => 1,
      isOnline: () => online,
      watch: (listener, signal) => {
        watching.add(listener);
        world = (is) => ((online = is), listener());
        signal.addEventListener('abort', () => watching.delete(listener));
      },
    };
    const abort = new AbortController();
    const client = new Client(
      'ws://nowhere',
      {
        WebSocket: Socket,
        signal: abort.signal,
        ...(name.includes('store') && { store: { all: () => new Promise(() => {}), put: () => {}, delete: () => {} } }),
        ...(name.includes('token') && { getToken: tokens[name] ?? (() => new Promise(() => {})) }),
      },
      environment,
    );
    const room = client.join('lobby', { after: { epoch: 'e', seq: 0 }, load: () => new Promise(() => {}) });
    const unsent = room.send('unsent').catch(({ code }) => code);
    const loop = (async () => {
      for await (const _ of room);
      return 'ended';
    })();
    await bring([() => made.at(-1), (is) => world(is), room]);

    const events = [];
    client.on('error', (error) => events.push(error));
    abort.abort();
    assert.equal(client.state.name, 'closed');
    // What waited for a hook or a token lets go as soon as it is told.
    await settle();
    assert.equal(running.size, 0, 'a timer runs');
    assert.equal(watching.size, 0, 'it still watches the network');
    assert.ok(made.every(({ isOpen }) => !isOpen), 'a socket is open');
    assert.equal(await unsent, 'closed');
    assert.equal(await loop, 'ended');
    for (const { listeners } of made) {
      listeners.open({});
      listeners.message({ data: '{"type":"broadcast","text":"late"}' });
      listeners.close({ code: 1006, reason: '' });
    }
    await settle();
    assert.deepEqual([running.size, made.length, events], [0, made.length, []]);
  });
}
