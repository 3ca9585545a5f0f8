// When to do without a WebSocket, and when to try one again.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Fallback } from '../src/fallback.js';

const SECOND = 1000;
const BOTH = ['websocket', 'stream'];

test('after two WebSockets in a row that did not open it is the turn of a stream', () => {
  const fallback = new Fallback(BOTH);
  const choose = () => fallback.next(true);
  assert.equal(choose(), 'websocket');
  fallback.failed('websocket');
  assert.equal(choose(), 'websocket');
  fallback.opened('websocket', 0);
  fallback.failed('websocket');
  assert.equal(choose(), 'websocket', 'they have to be in a row');
  fallback.failed('websocket');
  assert.equal(choose(), 'stream');
  assert.equal(fallback.next(false), 'websocket', 'without a room there is nothing to hear');
  fallback.opened('stream', 0);
  fallback.lost();
  assert.equal(choose(), 'stream', 'a stream that is cut is replaced by a stream');
  fallback.failed('stream');
  assert.equal(choose(), 'websocket', 'where streams fail too, each has its turn');
  fallback.failed('websocket');
  assert.equal(choose(), 'stream');
});

test('either can be forbidden', () => {
  const [sockets, streams] = BOTH.map((kind) => new Fallback([kind]));
  for (let n = 0; n < 5; n++) {
    sockets.failed('websocket');
    streams.failed('stream');
    assert.equal(sockets.next(true), 'websocket');
    for (const hasRooms of [true, false]) assert.equal(streams.next(hasRooms), 'stream');
  }
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
  fallback.lost();
  assert.equal(fallback.wakeAt, Infinity);
  fallback.opened('stream', 0);
  assert.equal(fallback.wakeAt, 600 * SECOND, 'another stream begins no other count');
  fallback.opened('websocket', 0);
  assert.equal(fallback.wakeAt, Infinity);
  fallback.opened('stream', 0);
  assert.equal(fallback.wakeAt, 30 * SECOND, 'but a WebSocket does');
});
