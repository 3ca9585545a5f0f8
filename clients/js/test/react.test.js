// The hook in a real React, under StrictMode, against a real server.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { JSDOM } from 'jsdom';
import WebSocket from 'ws';
import { connect } from '../dist/roomcast.js';
import { useRoom } from '../dist/react.js';
import { Server, until } from './support/servers.js';

const { window } = new JSDOM('<main></main>');
// The page's own kind of signal is the only one that its events take.
const { document, AbortController } = window;
Object.assign(globalThis, { window, document, AbortController });
globalThis.navigator ??= window.navigator;
const { StrictMode, createElement, useEffect } = await import('react');
const { createRoot } = await import('react-dom/client');

/** A root that is unmounted with the test, and what its component saw last. */
function mount(t, use) {
  const root = createRoot(document.createElement('main'));
  const seen = { renders: 0 };
  const Component = (props) => {
    seen.now = use(props);
    seen.renders++;
    return null;
  };
  const render = (props) => root.render(createElement(StrictMode, null, createElement(Component, props)));
  t.after(() => root.unmount());
  return { root, seen, render };
}

/** The WebSocket class with what was sent, over all sockets. */
function recording() {
  const sent = [];
  class Recording extends WebSocket {
    send(data) {
      sent.push(JSON.parse(data));
      super.send(data);
    }
  }
  return { sent, WebSocket: Recording };
}

test('a component under StrictMode joins once, hears all, sends, and leaves when it is gone', async (t) => {
  const server = await Server.start(t);
  const { sent, WebSocket } = recording();
  const chat = connect(server.url, { username: 'ann', WebSocket });
  t.after(() => chat.close());
  const { root, seen, render } = mount(t, ({ room }) => useRoom(room, { chat, last: 10, keep: 3 }));
  render({ room: 'lobby' });
  await until(() => seen.now?.state.name === 'joined', 'it is joined');
  assert.deepEqual(sent.map(({ type }) => type), ['join']);

  const before = seen.now;
  for (const text of ['one', 'two', 'three', 'four']) assert.ok((await seen.now.send(text)).seq);
  await until(() => seen.now.messages.at(-1)?.text === 'four', 'the last message');
  assert.deepEqual(seen.now.messages.map(({ text }) => text), ['two', 'three', 'four']);
  assert.deepEqual(seen.now.unsent, []);
  assert.equal(before.messages.length, 0, 'what was seen before is not changed');

  const renders = seen.renders;
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(seen.renders, renders, 'it does not render for nothing');

  // Another room takes its place.
  render({ room: 'other' });
  await until(() => seen.now.state.name === 'joined' && seen.now.messages.length === 0, 'the other room');
  await until(() => sent.some(({ type, room }) => type === 'leave' && room === 'lobby'), 'the first is left');
  root.unmount();
  await until(() => sent.some(({ type, room }) => type === 'leave' && room === 'other'), 'it is left');
});

test('components in one room share it, and the last one ends it', async (t) => {
  const server = await Server.start(t);
  const { sent, WebSocket } = recording();
  const chat = connect(server.url, { username: 'ann', WebSocket });
  t.after(() => chat.close());
  const views = [1, 2].map(() => mount(t, () => useRoom('lobby', { chat })));
  for (const { render } of views) render({});
  await until(() => views.every(({ seen }) => seen.now?.state.name === 'joined'), 'both are joined');
  await views[0].seen.now.send('hello');
  await until(() => views.every(({ seen }) => seen.now.messages.length === 1), 'both hear it');
  assert.equal(views[0].seen.now.messages, views[1].seen.now.messages);
  assert.equal(views[0].seen.now.unsent, views[1].seen.now.unsent);
  const signals = [];
  const bob = connect(server.url, { username: 'bob', WebSocket: recording().WebSocket });
  t.after(() => bob.close());
  const room = bob.join('lobby');
  const off = views[0].seen.now.onSignal(({ username, event, data }) => signals.push([username, event, data]));
  room.on('signal', ({ username, event }) => room.signal('answer', `${username} ${event}`));
  await until(() => room.state.name === 'joined', 'bob is in');
  views[1].seen.now.signal('typing');
  await until(() => signals.length, 'the answer');
  assert.deepEqual(signals, [['bob', 'answer', 'ann typing']]);
  assert.deepEqual((await views[1].seen.now.history()).messages.map(({ text }) => text), ['hello']);
  off();
  views[0].root.unmount();
  await views[1].seen.now.send('still here');
  assert.equal(sent.filter(({ type }) => type === 'leave').length, 0);
  views[1].root.unmount();
  await until(() => sent.some(({ type }) => type === 'leave'), 'it is left');
  assert.equal(sent.filter(({ type }) => type === 'join').length, 1);
});

test('a client that is closed is shown, and an effect can send at once', async (t) => {
  const server = await Server.start(t);
  const chat = connect(server.url, { username: 'ann', WebSocket });
  t.after(() => chat.close());
  let sent;
  const { seen, render } = mount(t, () => {
    const used = useRoom('lobby', { chat });
    useEffect(() => void (sent ??= used.send('from an effect')), [used.send]);
    return used;
  });
  render({});
  await until(() => sent, 'the effect');
  assert.equal((await sent).seq, 1);
  await until(() => seen.now.messages.length === 1, 'the message');

  const closed = connect(server.url, { username: 'ann', WebSocket });
  closed.close();
  const other = mount(t, () => useRoom('lobby', { chat: closed }));
  other.render({});
  await until(() => other.seen.now?.state.name === 'left', 'it is shown as left');
  assert.equal(other.seen.now.state.error.code, 'closed');
  await assert.rejects(other.seen.now.send('too late'));
});
