// What the tests against real servers share.
import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { connect } from '../../dist/roomcast.js';
import { until } from './servers.js';

// Waits stay random and grow as ever, but nobody here has the patience for them.
const { random } = Math;
Math.random = () => random() / 20;

/** A client that is closed with the test. */
export function client(t, { url }, options = {}) {
  const chat = connect(url, { username: 'ann', WebSocket, ...options });
  t.after(() => chat.close());
  return chat;
}

/** Collects what comes in a room. */
export function listen(room) {
  const heard = { texts: [], seqs: [], resets: [], joins: 0 };
  room.on('message', ({ text, seq }) => {
    heard.texts.push(text);
    heard.seqs.push(seq);
  });
  room.on('reset', (gap) => heard.resets.push(gap));
  room.on('joined', () => heard.joins++);
  return heard;
}

export const joined = (room) =>
  until(() => room.state.name === 'joined', () => `${room.name} is joined, not ${JSON.stringify(room.state)}`);

export const numbers = (count, from = 0) => Array.from({ length: count }, (_, n) => String(n + from));

/** All that was said came once, in its order, without a gap. */
export function assertWhole(heard, texts) {
  assert.deepEqual(heard.texts, texts);
  assert.deepEqual(heard.seqs, heard.seqs.map((_, n) => heard.seqs[0] + n));
  assert.deepEqual(heard.resets, []);
}
