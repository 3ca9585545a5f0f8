// When it connects, waits and gives up: decisions about time, with a clock and chance of the test's own.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Connection } from '../src/connection.js';

const SECOND = 1000;

/** A connection whose waits are always the longest possible. */
function begun({ random = () => 1, at = 0 } = {}) {
  const connection = new Connection(random);
  assert.equal(connection.start(at, true), 'dial');
  return connection;
}

/** Wakes it whenever it wants, up to `end`, and says what it did when. */
function pass(connection, from, end) {
  const did = [];
  for (let now = from; connection.wakeAt <= end; ) {
    now = Math.max(now, connection.wakeAt);
    const action = connection.wake(now);
    if (action) did.push([now / SECOND, action]);
    if (action === 'dial' || connection.state.name === 'closed') break;
  }
  return did;
}

test('waits double up to half a minute, and are as long as chance says', () => {
  for (const [random, waits] of [[() => 1, [1, 2, 4, 8, 16, 30, 30]], [() => 0.5, [0.5, 1, 2, 4, 8, 15, 15]], [() => 0, [0, 0, 0]]]) {
    const connection = begun({ random });
    for (const wait of waits) {
      connection.lost(0, { code: 1006 });
      assert.equal(connection.state.until, wait * SECOND);
      assert.equal(connection.wake(wait * SECOND), 'dial');
    }
  }
});

test('back-off begins anew after a minute of peace, and not when a connection opens', () => {
  const connection = begun();
  for (const [lasted, wait] of [[0, 1], [59, 2], [1, 4], [60, 1], [0, 2]]) {
    connection.opened(0);
    connection.lost(lasted * SECOND, { code: 1006 });
    assert.equal(connection.state.until, (lasted + wait) * SECOND, `after ${lasted} s`);
    connection.wake(connection.wakeAt);
  }
});

test('close codes say whether to come back', () => {
  const back = [1000, 1001, 1005, 1006, 1008, 1009, 1011, 1012, 1013, 3000, 4000, 4001, 4002, 4008, 4010, 4029, 4499];
  const away = [1002, 1003, 1007, 1010, 4500, 4501, 4503, 4510, 4511, 4999];
  for (const [codes, name] of [[back, 'waiting'], [away, 'closed']]) {
    for (const code of codes) {
      const connection = begun();
      connection.opened(0);
      connection.lost(1, { code, reason: 'because' });
      assert.equal(connection.state.name, name, `${code}`);
      assert.match(connection.state.why, /because/);
      if (name === 'closed') assert.ok(connection.state.remedy && connection.wakeAt === Infinity);
    }
  }
});

test('a server that said when it would stop is left at once, and only then', () => {
  for (const [notice, code, wait] of [[true, 1012, 0], [false, 1012, 1], [true, 1006, 1]]) {
    const connection = begun();
    connection.opened(0);
    if (notice) connection.noticed();
    connection.lost(0, { code });
    assert.equal(connection.state.until, wait * SECOND);
  }
});

test('a token that has ended is replaced at once, and with back-off if that is of no use', () => {
  const connection = begun();
  for (const [lasted, wait] of [[90, 0], [0, 2], [1, 4], [70, 0]]) {
    connection.opened(0);
    connection.lost(lasted * SECOND, { code: 4010 });
    assert.equal(connection.state.until, (lasted + wait) * SECOND, `after ${lasted} s`);
    connection.wake(connection.wakeAt);
  }
});

test('Retry-After is the least it waits', () => {
  const connection = begun({ random: () => 0.5 });
  connection.lost(0, { code: 1006, retryAfter: 7 * SECOND });
  assert.equal(connection.state.until, 7.5 * SECOND);
});

test('a silent server is asked after 20 s, and given up 10 s later', () => {
  const connection = begun();
  connection.opened(0);
  assert.deepEqual(pass(connection, 0, 29 * SECOND), [[20, 'ping']]);
  assert.equal(connection.wake(30 * SECOND), 'drop');
  assert.equal(connection.state.name, 'waiting');
});

test('a stream, which shows by itself that it lives, is asked later', () => {
  const connection = begun();
  connection.opened(0, 40 * SECOND);
  assert.deepEqual(pass(connection, 0, 49 * SECOND), [[40, 'ping']]);
  assert.equal(connection.wake(50 * SECOND), 'drop');
  pass(connection, 50 * SECOND, 60 * SECOND);
  connection.opened(60 * SECOND);
  assert.deepEqual(pass(connection, 60 * SECOND, 81 * SECOND), [[80, 'ping']]);
});

test('whoever answers, or says anything, is not given up', () => {
  const connection = begun();
  connection.opened(0);
  for (let minute = 0; minute < 60; minute++) {
    const start = minute * 25 * SECOND;
    assert.deepEqual(pass(connection, start, start + 24 * SECOND).map(([, action]) => action), ['ping']);
    connection.heard(start + 25 * SECOND);
  }
  assert.equal(connection.state.name, 'open');
});

test('a server that never answers the dial is dialled anew', () => {
  const connection = begun();
  assert.deepEqual(pass(connection, 0, 15 * SECOND), [[15, 'drop']]);
  assert.equal(connection.state.name, 'waiting');
});

test('a machine that slept asks at once, and believes a dead connection for 10 s only', () => {
  const connection = begun();
  connection.opened(0);
  const woken = 3600 * SECOND;
  assert.equal(connection.wake(woken), 'ping');
  assert.deepEqual(pass(connection, woken, woken + 10 * SECOND), [[3610, 'drop']]);

  const other = begun();
  other.opened(0);
  assert.equal(other.wake(woken), 'ping');
  other.heard(woken + 1);
  assert.deepEqual(pass(other, woken, woken + 19 * SECOND), []);
});

test('in a tab whose timers come once a minute, a dead connection is noticed all the same', () => {
  const connection = begun();
  connection.opened(0);
  const actions = [];
  for (let minute = 1; minute <= 4 && connection.state.name === 'open'; minute++) {
    actions.push(connection.wake(minute * 60 * SECOND));
  }
  assert.deepEqual(actions, ['ping', 'ping', 'drop']);
});

test('a clock that was set back breaks nothing', () => {
  const connection = begun({ at: 1000 * SECOND });
  connection.opened(1000 * SECOND);
  assert.equal(connection.wake(10 * SECOND), 'ping');
  connection.heard(10 * SECOND);
  assert.deepEqual(pass(connection, 10 * SECOND, 29 * SECOND), []);
});

test('offline it waits without an end, and online it tries at once', () => {
  const connection = new Connection(() => 1);
  assert.equal(connection.start(0, false), undefined);
  assert.deepEqual(connection.state, { name: 'waiting', why: 'the network is away', until: undefined, error: undefined });
  assert.equal(connection.wakeAt, Infinity);
  assert.equal(connection.network(5, true), 'dial');
  connection.network(6, false);
  connection.lost(7, { code: 1006 });
  assert.equal(connection.state.until, undefined);
  assert.equal(connection.network(8, false), undefined);
  assert.equal(connection.network(9, true), 'dial');
});

test('looking at the page ends a wait, and tests an open connection', () => {
  const connection = begun();
  connection.lost(0, { code: 1006 });
  assert.equal(connection.network(1, true), 'dial');
  connection.opened(2);
  assert.equal(connection.network(3, true), 'ping');
  assert.equal(connection.network(4, true), undefined);
});
