// The client against a model server, in a random order of what can happen: opened, cut, refused, answered late, offline,
// asleep, reloaded. A seed makes a run again: SEED=7 RUNS=1 node --test test/fuzz.test.js
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { Client } from '../src/client.js';
import { Model, chance } from './support/model.js';

const SEED = Number(process.env.SEED ?? 1);
const RUNS = Number(process.env.RUNS ?? 100);
const STEPS = 500;

/** One user with a client that may be reloaded, and what it was told. */
class User {
  said = [];
  lives = [];
  store = new Map();
  online = true;
  /** What it does as soon as the next message comes, from within its listener. */
  next = undefined;

  constructor(model, random, { slowStore, isKeyed, last }) {
    this.model = model;
    this.random = random;
    this.slowStore = slowStore;
    this.isKeyed = isKeyed;
    this.last = last;
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
    const answer = (value) => (this.slowStore ? Promise.resolve().then(() => value) : value);
    const store = {
      all: () => answer([...this.store.values()]),
      put: (unsent) => answer(void this.store.set(unsent.id, structuredClone(unsent))),
      delete: (id) => answer(void this.store.delete(id)),
    };
    let tokens = 0;
    const getToken = async () => {
      if (this.random() < 0.3) throw new Error('no token');
      return `token-${tokens++}`;
    };
    const who = this.isKeyed ? { getToken } : { username: 'ann' };
    this.client = new Client('ws://model', { WebSocket: this.model.WebSocket, transports: ['websocket'], ...who, store }, environment);
    this.client.on('error', (error) => assert.fail(error));
    this.enter();
  }

  /** Joins the room, and keeps what it hears there. */
  enter() {
    const life = { events: [] };
    this.lives.push(life);
    this.room = this.client.join('lobby', { last: this.last });
    this.room.on('message', (message) => {
      life.events.push(message);
      const { next } = this;
      this.next = undefined;
      next?.();
    });
    this.room.on('reset', (gap) => life.events.push({ gap }));
    this.room.on('joined', ({ position, originServer }) => {
      life.events.push({ joined: position, top: Number(originServer?.split(' ').at(-1)) });
    });
    this.room.on('failed', ({ unsent, error }) => (this.said.find(({ id }) => id === unsent.id).error = error));
  }

  say(text) {
    const said = { text, id: `id-${text}` };
    this.said.push(said);
    this.room.send(text, { id: said.id }).then(
      (position) => (said.position = position ?? true),
      (error) => (said.error = error),
    );
  }

  reload() {
    this.client.close();
    // What is in the store goes on in the next life.
    for (const said of this.said) if (this.store.has(said.id)) said.reloaded = true;
    this.begin();
  }

  rejoin() {
    this.room.leave();
    this.enter();
  }
}

async function settle() {
  for (let turn = 0; turn < 12; turn++) await Promise.resolve();
}

async function run(seed) {
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_700_000_000_000 });
  const random = chance(seed);
  const below = (bound) => Math.floor(random() * bound);
  const model = new Model(() => Date.now(), random);
  // Some servers keep little, some nothing, and some lose it.
  const kind = ['full', 'full', 'short', 'full', 'lost', 'none'][seed % 6];
  if (kind === 'short') model.historyLength = 8;
  if (kind === 'none') model.historyLength = 0;
  model.isSlim = seed % 4 > 0;
  for (let n = 0; n < 5; n++) model.publish('lobby', 'bob', 'before');
  // For some the token says who they are, and the server joins the room by itself.
  const isKeyed = seed % 5 > 2;
  if (isKeyed) model.autoJoin = [['lobby'], ['other', 'lobby', 'more'], []][seed % 3];
  const user = new User(model, random, { slowStore: seed % 2 === 1, isKeyed, last: seed % 7 > 4 ? undefined : 3 });
  await settle();
  let texts = 0;
  const any = () => [...model.connections][below(model.connections.size)];
  const connecting = () => [...model.connections].find(({ state }) => state === 'connecting');
  const say = () => user.say(String(texts++));
  const acts = {
    open: [6, () => connecting()?.[model.accepts ? 'open' : 'lose']({})],
    work: [20, () => any()?.work()],
    hear: [25, () => any()?.hear()],
    cut: [2, () => any()?.lose({ arrives: below(4) })],
    close: [1, () => any()?.lose({ code: [1012, 1013, 4001, 4008][below(4)], reason: 'because', arrives: below(3) })],
    mute: [0.3, () => ((any() ?? {}).isMute = true)],
    say: [8, say],
    other: [5, () => model.publish('lobby', 'bob', 'x')],
    time: [12, () => mock.timers.tick([10, 500, 3000, 12_000, 40_000][below(5)])],
    sleep: [1, () => mock.timers.setTime(Date.now() + [60_000, 400_000][below(2)])],
    back: [0.2, () => mock.timers.setTime(Date.now() - 30_000)],
    offline: [0.5, () => ((user.online = !user.online), user.world())],
    shown: [1, () => user.world()],
    mood: [2, () => (model.mood = [() => 'kept', () => 'kept', () => ['kept', 'refused', 'unclear'][below(3)]][below(3)])],
    accepts: [1, () => (model.accepts = random() < 0.8)],
    notice: [0.5, () => any()?.say({ type: 'reconnect', after_ms: 10, reason: 'shutting_down' })],
    expiring: [isKeyed ? 1 : 0, () => any()?.say({ type: 'expiring', in_ms: 30_000 })],
    expired: [isKeyed ? 0.5 : 0, () => any()?.lose({ code: 4010, reason: 'token_expired', arrives: below(3) })],
    out: [0.3, () => any()?.putOut('lobby')],
    lose: [kind === 'lost' ? 0.5 : 0, () => model.lose('lobby')],
    reload: [0.4, () => user.reload()],
    leave: [0.05, () => user.rejoin()],
    inside: [1, () => (user.next = { 0: () => user.rejoin(), 1: () => user.reload() }[below(30)] ?? say)],
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
  for (const connection of model.connections) connection.putOut('lobby');
  user.next = undefined;
  model.mood = () => 'kept';
  model.accepts = true;
  user.online = true;
  user.world();
  const turn = async (time) => {
    for (const connection of [...model.connections]) {
      if (connection.state === 'connecting') connection.open();
      connection.work();
      connection.hear();
    }
    mock.timers.tick(time);
    await settle();
  };
  const isDone = () => !user.room.unsent.length && user.room.state.name === 'joined';
  for (let turns = 0; turns < 6000 && !(turns > 200 && isDone()); turns++) await turn(turns % 10 ? 1 : 500);
  model.publish('lobby', 'bob', 'the last');
  for (let turns = 0; turns < 60; turns++) await turn(1);
  for (const connection of model.connections) while (connection.down.length) connection.hear();
  await settle();
  assert.equal(user.room.state.name, 'joined', replay());
  assert.deepEqual(user.room.unsent, [], replay());
  assert.equal(user.lives.at(-1).events.at(-1).text, 'the last', `it hears what is said then, ${replay()}`);

  const { log, seq: top } = model.room('lobby');
  judgeSaid(user.said, log, kind, replay);
  if (kind !== 'none') {
    for (const { events } of user.lives) judgeHeard(events, kind, replay);
    assert.equal(user.room.position.seq, top, `it is up to date, ${replay()}`);
  }

  user.client.close();
  const open = () => [...model.connections].filter(({ state }) => state !== 'closed').length;
  assert.equal(open(), 0, `no socket outlives close, ${replay()}`);
  mock.timers.tick(3_600_000);
  assert.equal(open(), 0, `nor a timer, ${replay()}`);
  mock.timers.reset();
}

/** What was acknowledged is there once, in the order in which it was said; what failed is not, unless that was said. */
function judgeSaid(said, log, kind, replay) {
  const own = log.filter(({ username }) => username === 'ann');
  for (const { text, position, error, reloaded } of said) {
    const found = own.filter((message) => message.text === text);
    if (error) assert.match(error.code, /^(outcome_unknown|too_old|left|closed)$/, replay());
    // A Redis that has lost its last writes has lost what it knew of ids, too.
    if (kind === 'lost') continue;
    assert.ok(found.length <= 1, `${text} is there ${found.length} times, ${replay()}`);
    if (position?.seq) assert.equal(found[0]?.seq, position.seq, `${text} is where its ack says, ${replay()}`);
    else if (position) assert.equal(found.length, 1, `${text} was acknowledged, ${replay()}`);
    else if (!error) assert.ok(found.length === 1 || kind === 'none', `${text} came to nothing, ${replay()}`);
    else if (!reloaded) assert.ok(error.maybeKept || !found.length, `${text} failed with ${error.code} and is there, ${replay()}`);
  }
  if (kind === 'lost') return;
  const order = own.map(({ text }) => Number(text));
  assert.deepEqual(order, order.toSorted((one, other) => one - other), `in order, ${replay()}`);
}

/** From one message to the next there is no hole that no gap has announced, and nothing comes twice. */
function judgeHeard(events, kind, replay) {
  let at;
  for (const { seq, gap, joined, top } of events) {
    if (gap) {
      assert.notEqual(gap.reason, 'missed', `the server leaves no hole, ${replay()}`);
      if (gap.reason === 'trimmed') assert.ok(at === undefined || gap.upTo.seq >= at, `a gap leads back, ${replay()}`);
      at = gap.upTo.seq;
    } else if (joined) {
      if (at !== undefined) assert.equal(joined.seq, at, `joined is at the last event, ${replay()}`);
      if (kind !== 'lost') assert.ok(joined.seq >= top, `joined, but the replay is not over: ${joined.seq} of ${top}, ${replay()}`);
    } else if (seq !== undefined) {
      if (at !== undefined) assert.equal(seq, at + 1, `the message after ${at}, ${replay()}`);
      at = seq;
    }
  }
}

test(`nothing is lost, doubled or out of order in ${RUNS} random lives, from seed ${SEED}`, { timeout: 300_000 }, async () => {
  for (let seed = SEED; seed < SEED + RUNS; seed++) await run(seed);
});
