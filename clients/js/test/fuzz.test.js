// The client against a model server, in a random order of what can happen: opened, cut, refused, answered late, offline,
// asleep, reloaded. A seed makes a run again: SEED=7 RUNS=1 node --test test/fuzz.test.js
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { Client } from '../src/client.js';
import { Model, chance } from './support/model.js';

const SEED = Number(process.env.SEED ?? 1);
const RUNS = Number(process.env.RUNS ?? 100);
const STEPS = 400;

/** One user with a client that may be reloaded, and what it was told. */
class User {
  said = [];
  lives = [];
  store = new Map();
  online = true;

  constructor(model, random) {
    this.model = model;
    this.random = random;
    this.begin();
  }

  begin() {
    const environment = {
      now: () => Date.now(),
      random: this.random,
      isOnline: () => this.online,
      watch: (listener, signal) => {
        this.world = listener;
        signal.addEventListener('abort', () => (this.world = () => {}));
      },
    };
    const store = {
      all: () => [...this.store.values()],
      put: (unsent) => void this.store.set(unsent.id, structuredClone(unsent)),
      delete: (id) => void this.store.delete(id),
    };
    this.client = new Client('ws://model', { WebSocket: this.model.WebSocket, username: 'ann', store }, environment);
    this.client.on('error', (error) => assert.fail(error));
    this.enter();
  }

  /** Joins the room, and keeps what it hears there. */
  enter() {
    const life = { events: [] };
    this.lives.push(life);
    this.room = this.client.join('lobby', { last: 3 });
    this.room.on('message', (message) => life.events.push(message));
    this.room.on('reset', (gap) => life.events.push({ gap }));
    this.room.on('joined', ({ position }) => life.events.push({ joined: position }));
    this.room.on('failed', ({ unsent, error }) => (this.said.find(({ id }) => id === unsent.id).error = error));
  }

  say(text) {
    const said = { text, id: `id-${text}` };
    this.said.push(said);
    this.room.send(text, { id: said.id }).then(
      (position) => (said.position = position),
      (error) => (said.error = error),
    );
  }

  reload() {
    this.client.close();
    // What is in the store goes on in the next life.
    for (const said of this.said) if (this.store.has(said.id)) said.reloaded = true;
    this.begin();
  }
}

async function settle() {
  for (let turn = 0; turn < 12; turn++) await Promise.resolve();
}

async function run(seed) {
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_700_000_000_000 });
  const random = chance(seed);
  const below = (bound) => Math.floor(random() * bound);
  const model = new Model(() => Date.now());
  if (seed % 3 === 0) model.historyLength = 8;
  const user = new User(model, random);
  let texts = 0;
  const any = () => [...model.connections][below(model.connections.size)];
  const connecting = () => [...model.connections].find(({ state }) => state === 'connecting');
  const acts = {
    open: [6, () => connecting()?.[model.accepts ? 'open' : 'lose']({})],
    work: [20, () => any()?.work()],
    hear: [20, () => any()?.hear()],
    cut: [2, () => any()?.lose({ arrives: below(4) })],
    close: [1, () => any()?.lose({ code: [1012, 1013, 4001, 4008][below(4)], reason: 'because', arrives: below(3) })],
    say: [8, () => user.say(String(texts++))],
    other: [5, () => model.publish('lobby', 'bob', 'x')],
    time: [12, () => mock.timers.tick([10, 500, 3000, 12_000, 40_000][below(5)])],
    sleep: [0.5, () => mock.timers.setTime(Date.now() + [60_000, 400_000][below(2)])],
    offline: [0.5, () => user.world((user.online = !user.online) ? 'online' : 'offline')],
    shown: [1, () => user.world('shown')],
    mood: [1, () => (model.mood = [() => 'kept', () => 'kept', () => ['kept', 'refused', 'unclear'][below(3)]][below(3)])],
    accepts: [0.5, () => (model.accepts = !model.accepts)],
    notice: [0.5, () => any()?.say({ type: 'reconnect', after_ms: 10, reason: 'shutting_down' })],
    out: [0.3, () => any()?.putOut('lobby')],
    reload: [0.7, () => user.reload()],
    leave: [0.3, () => (user.room.leave(), user.enter())],
  };
  const total = Object.values(acts).reduce((sum, [weight]) => sum + weight, 0);
  const trail = [];
  const pick = () => {
    let at = random() * total;
    for (const [name, [weight, act]] of Object.entries(acts)) if ((at -= weight) < 0) return [name, act];
    return ['time', acts.time[1]];
  };
  const replay = () => `seed ${seed}; the end of it: ${trail.slice(-40).join(' ')}`;

  for (let step = 0; step < STEPS; step++) {
    const [name, act] = pick();
    trail.push(name);
    act();
    await settle();
  }

  // All heals, and all comes to an end.
  model.mood = () => 'kept';
  model.accepts = true;
  user.online = true;
  user.world('online');
  for (let turn = 0; turn < 4000 && (user.room.unsent.length || user.room.state.name !== 'joined' || turn < 200); turn++) {
    for (const connection of [...model.connections]) {
      if (connection.state === 'connecting') connection.open();
      connection.work();
      connection.hear();
    }
    mock.timers.tick(turn % 10 ? 1 : 500);
    await settle();
  }
  assert.equal(user.room.state.name, 'joined', replay());
  assert.deepEqual(user.room.unsent, [], replay());
  for (const connection of model.connections) while (connection.down.length) connection.hear();
  await settle();

  const { log, seq: top } = model.room('lobby');
  judgeSaid(user.said, log, replay);
  for (const { events } of user.lives) judgeHeard(events, replay);
  assert.equal(user.room.position.seq, top, `it is up to date, ${replay()}`);

  user.client.close();
  const sockets = [...model.connections].filter(({ state }) => state !== 'closed');
  assert.deepEqual(sockets, [], `no socket outlives close, ${replay()}`);
  mock.timers.tick(3_600_000);
  assert.equal([...model.connections].filter(({ state }) => state !== 'closed').length, 0, `nor a timer, ${replay()}`);
  mock.timers.reset();
}

/** What was acknowledged is there once, in the order in which it was said; what failed is not, unless that was said. */
function judgeSaid(said, log, replay) {
  const own = log.filter(({ username }) => username === 'ann');
  for (const { text, position, error, reloaded } of said) {
    const found = own.filter((message) => message.text === text);
    assert.ok(found.length <= 1, `${text} is there ${found.length} times, ${replay()}`);
    if (position) assert.equal(found[0]?.seq, position.seq, `${text} is where its ack says, ${replay()}`);
    else if (error && !reloaded) assert.ok(error.maybeKept || !found.length, `${text} failed with ${error.code} and is there, ${replay()}`);
    else if (!error) assert.equal(found.length, 1, `${text} came to nothing, ${replay()}`);
  }
  const order = own.map(({ text }) => Number(text));
  assert.deepEqual(order, order.toSorted((one, other) => one - other), `in order, ${replay()}`);
}

/** From one message to the next there is no hole that no gap has announced, and nothing comes twice. */
function judgeHeard(events, replay) {
  let at;
  for (const { seq, gap } of events) {
    if (gap) {
      assert.ok(at === undefined || gap.upTo.seq >= at, `a gap leads back, ${replay()}`);
      at = gap.upTo.seq;
    } else if (seq !== undefined) {
      if (at !== undefined) assert.equal(seq, at + 1, `the message after ${at}, ${replay()}`);
      at = seq;
    }
  }
}

test(`nothing is lost, doubled or out of order in ${RUNS} random lives, from seed ${SEED}`, { timeout: 300_000 }, async () => {
  for (let seed = SEED; seed < SEED + RUNS; seed++) await run(seed);
});
