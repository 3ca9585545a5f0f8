// When to do without a WebSocket, and when to try one again.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Fallback } from '../src/fallback.js';

const SECOND = 1000;
const BOTH = ['websocket', 'stream'];

/** Dials, and loses what does not open. */
function fail(fallback, isClear = false) {
  const kind = fallback.dial(true);
  fallback.lost(isClear);
  return kind;
}

test('after two WebSockets in a row that did not open it is the turn of a stream', () => {
  const fallback = new Fallback(BOTH);
  assert.equal(fail(fallback), 'websocket');
  assert.equal(fallback.dial(true), 'websocket');
  fallback.opened('websocket', 0);
  fallback.lost(false);
  assert.deepEqual([fail(fallback), fail(fallback)], ['websocket', 'websocket'], 'they have to be in a row');
  assert.equal(fallback.dial(false), 'websocket', 'without a room there is nothing to hear');
  assert.equal(fallback.dial(true), 'stream');
  fallback.opened('stream', 0);
  fallback.lost(false);
  assert.equal(fail(fallback), 'stream', 'a stream that is cut is replaced by a stream');
  assert.deepEqual([fail(fallback), fail(fallback)], ['websocket', 'stream'], 'where streams fail too, each has its turn');
});

test('what the server itself refuses says nothing of the network', () => {
  const fallback = new Fallback(BOTH);
  for (let n = 0; n < 5; n++) assert.equal(fail(fallback, true), 'websocket');
});

test('either can be forbidden', () => {
  const [sockets, streams] = BOTH.map((kind) => new Fallback([kind]));
  for (let n = 0; n < 5; n++) assert.deepEqual([fail(sockets), fail(streams)], BOTH);
  assert.equal(streams.dial(false), 'stream');
  streams.opened('stream', 0);
  assert.equal(streams.wakeAt, Infinity);
});

test('beside a stream a WebSocket is tried after 30 seconds, and then ever more rarely', () => {
  const fallback = new Fallback(BOTH);
  assert.equal(fallback.wakeAt, Infinity);
  fallback.opened('stream', 0);
  const tries = [];
  for (let now = 0; now < 3600 * SECOND; now = fallback.wakeAt) if (fallback.wake(now)) tries.push(now / SECOND);
  assert.deepEqual(tries.slice(0, 6), [30, 90, 210, 450, 930, 1530]);
  assert.deepEqual(tries.slice(-2), [2730, 3330]);
  fallback.lost(false);
  assert.equal(fallback.wakeAt, Infinity);
  fallback.opened('stream', 3900 * SECOND);
  assert.equal(fallback.wakeAt, 3930 * SECOND, 'another stream begins no other count');
  fallback.lost(false);
  fallback.opened('websocket', 0);
  assert.equal(fallback.wakeAt, Infinity);
  fallback.opened('stream', 0);
  assert.equal(fallback.wakeAt, 30 * SECOND, 'but a WebSocket does');
});
