// A server in a few lines, as docs/protocol.md describes it, whose network and moods a test decides step by step.

/** What the tests draw from, so that a run can be had again (mulberry32). */
export function chance(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** How long the model remembers an id, in ms. */
const WINDOW = 300_000;
const IDLE = 60_000;

export class Model {
  rooms = new Map();
  /** Connections, also those that the client has lost and whose last frames are still on their way here. */
  connections = new Set();
  accepts = true;
  /** What becomes of the next publishes: `kept`, `refused` or `unclear`. */
  mood = () => 'kept';
  /** Whether it leaves out of live messages what a client of `roomcast.v1` knows or does not need. */
  isSlim = false;
  /** How many messages a room keeps; with 0 it numbers none. */
  historyLength = Infinity;
  /** Rooms that it joins for whoever shows a token. */
  autoJoin = [];

  constructor(now, random) {
    this.now = now;
    this.random = random;
    const model = this;
    this.WebSocket = class extends Connection {
      constructor(url, protocols) {
        super(model, protocols);
      }
    };
  }

  room(name) {
    if (!this.rooms.has(name)) this.rooms.set(name, { epoch: `epoch-${name}`, log: [], seq: 0, ids: new Map() });
    return this.rooms.get(name);
  }

  /** Numbers a message, or finds it by its id. What becomes of it is known to its sender's connection, if to any. */
  publish(name, username, text, id, sender) {
    const room = this.room(name);
    if (!this.historyLength) {
      const message = { ts: this.now(), originServer: 'model', type: 'message', room: name, username, text, id };
      room.log.push(message);
      for (const connection of this.connections) if (connection.names.has(name)) connection.say(message);
      return {};
    }
    const key = `${username} ${id}`;
    const known = id && room.ids.get(key);
    if (known && this.now() - known.at < WINDOW) return { epoch: room.epoch, seq: known.seq };
    const seq = ++room.seq;
    const message = { epoch: room.epoch, seq, ts: this.now(), originServer: 'model', type: 'message', room: name, username, text, ...(id && { id }) };
    room.log.push(message);
    if (id) room.ids.set(key, { seq, at: this.now() });
    for (const connection of this.connections) {
      if (connection.names.has(name)) connection.say(this.isSlim ? slim(message, connection === sender) : message);
    }
    return { epoch: room.epoch, seq };
  }

  /** Loses a room, as Redis may: its numbering begins anew, and members are told. */
  lose(name) {
    const room = { epoch: `${this.room(name).epoch}'`, log: [], seq: 0, ids: new Map() };
    this.rooms.set(name, room);
    const reset = { type: 'reset', room: name, epoch: room.epoch, seq: 0, reason: 'new_epoch' };
    for (const connection of this.connections) if (connection.names.has(name)) connection.say(reset);
  }

  /** What the room still has. */
  kept(name) {
    return this.room(name).log.slice(-this.historyLength);
  }
}

function slim({ epoch, originServer, id, ...message }, isOwn) {
  return isOwn ? { ...message, id } : message;
}

class Connection {
  /** What is on its way to the server, and to the client. */
  up = [];
  down = [];
  /** The name in each room. */
  names = new Map();
  /** Rooms that the server is to join for the client, and those that it has joined. */
  toJoin = [];
  byServer = new Set();
  state = 'connecting';
  /** Whether nothing comes from the server any more, and nobody is told. */
  isMute = false;
  listeners = { open: [], message: [], close: [], error: [] };

  constructor(model, protocols) {
    this.model = model;
    this.protocols = protocols;
    this.born = model.now();
    model.connections.add(this);
  }

  addEventListener(type, listener) {
    this.listeners[type].push(listener);
  }

  fire(type, event = {}) {
    for (const listener of this.listeners[type]) listener(event);
  }

  send(data) {
    if (this.state !== 'open') throw new Error('not open');
    this.up.push({ ...JSON.parse(data), at: this.model.now() });
  }

  close() {
    if (this.state !== 'closed') this.lose({});
  }

  open() {
    this.state = 'open';
    this.fire('open');
    if (this.protocols.length) this.admit();
  }

  /** Takes the client's token: it is always Ann's. */
  admit() {
    this.toJoin = this.model.autoJoin.filter((name) => !this.names.has(name));
    this.say({ type: 'authenticated', username: 'ann', expires_ms: 60_000, rooms: this.model.autoJoin });
  }

  /** The client hears no more. Frames that were on their way here may still arrive, for a while. */
  lose({ code = 1006, reason = '', arrives = 0 }) {
    if (this.state === 'closed') return void this.model.connections.delete(this);
    this.state = 'closed';
    this.down = [];
    this.up.length = Math.min(this.up.length, arrives);
    if (!this.up.length) this.model.connections.delete(this);
    this.fire('close', { code, reason });
  }

  say(frame) {
    if (this.state !== 'open' || this.isMute) return;
    // An ack may come before the message that it is about, and before others' that are on their way.
    const last = this.down.findLastIndex(({ type }) => type !== 'message');
    if (frame.type === 'ack' && this.model.random() < 0.5) this.down.splice(last + 1, 0, frame);
    else this.down.push(frame);
  }

  /** The client gets the next frame. */
  hear() {
    const frame = this.down.shift();
    if (frame) this.fire('message', { data: JSON.stringify(frame) });
  }

  /** The server carries out the next frame. What took a minute meets a connection that it has closed as idle. */
  work() {
    if (this.up.length && this.model.now() - this.up[0].at > IDLE) {
      this.up = [];
      return this.lose({});
    }
    // It joins rooms by itself before or after it reads what the client wants.
    if (this.toJoin.length && this.state === 'open' && !this.isMute && this.model.random() < 0.5) {
      const name = this.toJoin.shift();
      this.byServer.add(name);
      this.join(name, 'ann');
    }
    const frame = this.up.shift();
    if (frame && !this.isMute) this.carryOut(frame);
    if (this.state === 'closed' && !this.up.length) this.model.connections.delete(this);
  }

  carryOut({ type, room: name, username, after, last, id, text }) {
    const refuse = (code) => this.say({ type: 'error', code, message: code, ...(id && { id }), room: name });
    if (type === 'ping') this.say({ type: 'pong' });
    if (type === 'auth') this.admit();
    if (type === 'leave') {
      this.byServer.delete(name);
      if (!this.names.delete(name)) return refuse('not_member');
      this.say({ type: 'left', room: name });
    }
    if (type === 'message') {
      if (!this.names.has(name)) return refuse('not_member');
      const mood = this.model.mood();
      if (mood === 'refused') return refuse('unavailable');
      // A publish whose outcome is unclear comes as anybody's.
      const place = this.model.publish(name, this.names.get(name), text, id, mood === 'kept' ? this : undefined);
      if (mood === 'unclear') return refuse('unavailable');
      this.say({ type: 'ack', id, room: name, ...place });
    }
    if (type === 'join') {
      const isMember = this.names.has(name);
      if (isMember && !(this.byServer.has(name) && (after || last))) return refuse('already_member');
      this.toJoin = this.toJoin.filter((other) => other !== name);
      this.byServer.delete(name);
      this.names.delete(name);
      if (this.model.mood() !== 'kept') return refuse('unavailable');
      this.join(name, username ?? 'ann', after, last);
    }
  }

  /** Ends a membership, as a server does that cannot go on with a replay. */
  putOut(name) {
    if (this.names.delete(name)) this.say({ type: 'left', room: name, reason: 'unavailable' });
  }

  join(name, username, after, last = 0) {
    this.names.set(name, username);
    const { epoch, seq: top } = this.model.room(name);
    if (!this.model.historyLength) {
      return this.say({ type: 'joined', room: name, members: 1, ...(after && { resumed: false }) });
    }
    const kept = this.model.kept(name);
    const oldest = kept[0]?.seq ?? top + 1;
    const joined = { type: 'joined', room: name, epoch, members: 1, originServer: `model at ${top}` };
    let from = top;
    if (after) {
      const known = after.epoch === epoch && after.seq <= top;
      const resumed = known && after.seq + 1 >= oldest;
      from = resumed ? after.seq : known ? oldest - 1 : top;
      this.say({ ...joined, ...after, resumed, ...(from < top && { until: top }) });
      const reason = known ? 'trimmed' : 'unknown_position';
      if (!resumed) this.say({ type: 'reset', room: name, epoch, seq: from, reason });
    } else {
      from = Math.max(top - last, oldest - 1);
      this.say({ ...joined, seq: from, ...(from < top && { until: top }) });
    }
    for (const message of kept) if (message.seq > from) this.say(message);
  }
}
