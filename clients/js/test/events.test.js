// A stream of server-sent events, in whatever pieces it comes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventReader } from '../src/events.js';

const bytes = (text) => new TextEncoder().encode(text);

/** What is read of these bytes if they come in pieces of this length. */
function read(text, length = Infinity) {
  const reader = new EventReader();
  const all = bytes(text);
  const events = [];
  for (let from = 0; from < all.length; from += length) events.push(...reader.feed(all.subarray(from, from + length)));
  return events.map(({ data, event, id }) => [data, event, id]);
}

const STREAM = [
  '\ufeff: a comment, and the mark of the byte order before it',
  'event: joined',
  'id: a=00:7,b=01:9',
  'data: {"text":"Grüße 🌻, 你好"}',
  '',
  'data',
  'data:two',
  'data:  three',
  'retry: 7',
  'unknown: x',
  '',
  ':',
  '',
  'event: without data',
  '',
  'data: last',
  'id',
  '',
  'data: not ended',
  '',
];
const EVENTS = [
  ['{"text":"Grüße 🌻, 你好"}', 'joined', 'a=00:7,b=01:9'],
  ['\ntwo\n three', undefined, undefined],
  ['last', undefined, ''],
];

test('events are read whatever ends their lines, and wherever they are cut', () => {
  for (const end of ['\n', '\r\n', '\r']) {
    const text = STREAM.join(end);
    for (let length = 1; length < 40; length++) assert.deepEqual(read(text, length), EVENTS, `${JSON.stringify(end)} by ${length}`);
    assert.deepEqual(read(text), EVENTS);
  }
  assert.deepEqual(read('data: one\r\n\ndata: two\n\r\ndata: three\r\r', 1).map(([data]) => data), ['one', 'two', 'three']);
});

test('an event comes with the byte that ends it, and not later', () => {
  for (const end of ['\n', '\r', '\r\n']) {
    const reader = new EventReader();
    assert.deepEqual(reader.feed(bytes(`data: x${end}`)), []);
    assert.equal(reader.feed(bytes(end)).length, 1);
    assert.equal(reader.feed(bytes(`data: y${end}${end}`)).length, 1);
  }
});

test('what does not end is not kept for ever', () => {
  const piece = bytes('x'.repeat(1 << 16));
  const line = new EventReader();
  const event = new EventReader();
  assert.throws(() => {
    for (let n = 0; n < 17; n++) line.feed(piece);
  }, RangeError);
  assert.throws(() => {
    for (let n = 0; n < 17; n++) event.feed(bytes(`data: ${'x'.repeat(1 << 16)}\n`));
  }, RangeError);
});
