/** @import { Chat, ChatEvents, ConnectOptions, JoinOptions, Position, SendOptions, State, Unsent,
 *    WebSocketLike } from '../roomcast.d.ts' */
/** @import { Action } from './connection.js' */
/** @import { Effect, Frame } from './membership.js' */
import { Connection } from './connection.js';
import { Emitter } from './emitter.js';
import { RoomcastError } from './error.js';
import { Membership, lengthOf } from './membership.js';
import { Room } from './room.js';

/**
 * What the client needs of the world around it, but for sockets and timers.
 *
 * @typedef {object} Environment
 * @property {() => number} now
 * @property {() => number} random
 * @property {() => boolean} isOnline
 * @property {(listener: (what: 'online' | 'offline' | 'shown') => void, signal: AbortSignal) => void} watch
 *
 * A `send` that has not come to an end; those of an earlier life have nobody who waits.
 *
 * @typedef {object} Pending
 * @property {number} bytes
 * @property {(position: Position | undefined) => void} [resolve]
 * @property {(error: unknown) => void} [reject]
 */

/** What a room may be called; a server may allow fewer than these 512 characters, and says so. */
const ROOM = /^[\w.:~@-]{1,512}$/;

/** Longest time that a timer can be set for. */
const LONGEST_TIMER = 2 ** 31 - 1;

/**
 * The client around its state machines: it moves what happens (frames, time, the network) into them, and carries out what
 * they decide, in order.
 *
 * @implements {Chat}
 */
export class Client {
  #url;
  #options;
  #environment;
  #connection;
  /** @type {Emitter<ChatEvents>} */
  #emitter = new Emitter((error) => console.error(error));
  /** @type {Map<string, { membership: Membership, room: Room }>} */
  #rooms = new Map();
  /** @type {Map<string, Pending>} */
  #pending = new Map();
  /** Bytes of text in them. */
  #bytes = 0;
  /** Messages of an earlier life whose rooms have not been joined yet. @type {Unsent[]} */
  #restored = [];
  /** @type {WebSocketLike | undefined} */
  #socket;
  /** Ends the wait for a token. @type {AbortController | undefined} */
  #dialling;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** The state that was told last. */
  #told;
  /** What is to be done, in order; what a listener asks for meanwhile comes behind. @type {(() => void)[]} */
  #agenda = [];
  #busy = false;
  /** Ends all that listens. */
  #life = new AbortController();

  /** @param {string} url @param {ConnectOptions} options @param {Environment} environment */
  constructor(url, options, environment) {
    this.#url = url;
    this.#options = { maxUnsent: 1000, maxUnsentBytes: 1 << 20, maxUnsentAge: 3_600_000, dedupWindow: 300_000, ...options };
    this.#environment = environment;
    this.#connection = new Connection(environment.random);
    this.#told = this.state;
    const { signal } = this.#life;
    options.signal?.addEventListener('abort', () => this.close(), { signal });
    environment.watch((what) => {
      this.#step((now) =>
        what === 'shown' ? this.#connection.shown(now) : this.#connection.network(now, what === 'online'),
      );
    }, signal);
    if (options.signal?.aborted) this.close();
    else this.#begin();
  }

  get state() {
    return this.#connection.state;
  }

  /** @type {Chat['on']} */
  on(type, listener, options) {
    return this.#emitter.on(type, listener, options);
  }

  /** @param {string} name @param {JoinOptions} [options] */
  join(name, options = {}) {
    const before = this.#rooms.get(name);
    if (before && before.room.state.name !== 'left') return before.room;
    if (this.state.name === 'closed') throw new RoomcastError('closed', `the client is closed: ${this.state.why}`);
    const { random } = this.#environment;
    const membership = new Membership(name, {
      ...this.#options,
      ...options,
      username: options.username ?? this.#options.username,
      random,
      effect: (effect) => {
        const socket = this.#socket;
        this.#agenda.push(() => this.#carryOut(effect, room, socket));
      },
    });
    const room = new Room(membership, options.load, {
      send: (text, options) => this.#send(membership, room, text, options),
      leave: () => {
        this.#step(() => membership.leave());
        this.#step(() => room.end());
      },
      report: (error) => this.#report(error),
    });
    this.#rooms.set(name, { membership, room });
    this.#restore(membership);
    this.#step((now) => {
      if (!ROOM.test(name)) membership.refuse('bad_room', 'a room is 1 to 128 of the characters A-Z a-z 0-9 - _ . : ~ @');
      else if (before?.membership.phase === 'leaving') membership.follow();
      else if (this.state.name === 'open') membership.connected(now);
    });
    return room;
  }

  close() {
    this.#end({ name: 'closed', why: 'you closed it', remedy: 'connect again' });
  }

  /** Reads the store, then connects: what is in there says from where on rooms are joined. */
  async #begin() {
    try {
      const all = this.#options.store?.all() ?? [];
      this.#restored = all instanceof Promise ? await all : [...all];
    } catch (error) {
      this.#report(error);
    }
    for (const { membership } of this.#rooms.values()) this.#restore(membership);
    this.#step((now) => this.#connection.start(now, this.#environment.isOnline()));
  }

  /** What was said in the room in an earlier life under the same name. @param {Membership} membership */
  #restore(membership) {
    const isOfRoom = (/** @type {Unsent} */ { room, username }) =>
      room === membership.name && username === membership.username;
    const unsent = this.#restored.filter(isOfRoom);
    if (!unsent.length) return;
    this.#restored = this.#restored.filter((unsent) => !isOfRoom(unsent));
    for (const { id, text } of unsent) this.#remember(id, { bytes: lengthOf(text) });
    membership.restore(unsent);
  }

  /** Has something happen, does what follows from it, and sees to it that time goes on. @param {(now: number) => Action | void} happen */
  #step(happen) {
    if (this.#life.signal.aborted) return;
    this.#act(happen(this.#environment.now()));
    this.#tellState();
    if (this.#busy) return;
    this.#busy = true;
    for (let next; (next = this.#agenda.shift()); ) next();
    this.#busy = false;
    this.#setTimer();
  }

  /** @param {Action | void} action */
  #act(action) {
    if (action === 'dial') this.#agenda.push(() => this.#dial());
    if (action === 'ping') this.#transmit(this.#socket, { type: 'ping' });
    if (action === 'drop') {
      const socket = this.#socket;
      this.#disconnected();
      // A socket of `ws` would wait for an answer for half a minute; the browser's has no `terminate`.
      hangUp(socket, 'terminate');
    }
  }

  #tellState() {
    const { state } = this;
    if (state === this.#told) return;
    this.#told = state;
    this.#agenda.push(() => (state.name === 'closed' ? this.#end(state) : this.#emitter.emit('state', state)));
  }

  #setTimer() {
    clearTimeout(this.#timer);
    if (this.#life.signal.aborted) return;
    let { wakeAt } = this.#connection;
    for (const [name, { membership }] of this.#rooms) {
      if (membership.phase === 'ended') this.#rooms.delete(name);
      else wakeAt = Math.min(wakeAt, membership.wakeAt);
    }
    if (wakeAt === Infinity) return;
    const wait = Math.min(Math.max(wakeAt - this.#environment.now(), 0), LONGEST_TIMER);
    this.#timer = setTimeout(() => {
      this.#step((now) => {
        for (const { membership } of this.#rooms.values()) membership.wake(now);
        return this.#connection.wake(now);
      });
    }, wait);
  }

  async #dial() {
    if (this.state.name !== 'connecting') return;
    const { getToken } = this.#options;
    const { signal } = (this.#dialling = new AbortController());
    try {
      const protocols = getToken ? ['roomcast.v1', `roomcast.bearer.${await getToken({ signal })}`] : [];
      if (!signal.aborted) this.#open(protocols);
    } catch (error) {
      // The URL has been looked at before: there is no token, or one that cannot be a subprotocol.
      if (!signal.aborted) this.#step((now) => this.#lost(now, { reason: String(error) }));
    }
  }

  /** @param {string[]} protocols */
  #open(protocols) {
    const { WebSocket } = this.#options;
    /** @type {any} */
    const socket = new /** @type {NonNullable<typeof WebSocket>} */ (WebSocket)(this.#url, protocols);
    this.#socket = socket;
    /** What a socket that has been given up says does not count. */
    const on = (/** @type {string} */ type, /** @type {(now: number, event: any) => void} */ listener) =>
      socket.addEventListener(type, (/** @type {any} */ event) => {
        if (this.#socket === socket) this.#step((now) => listener(now, event));
      });
    let refusal = {};
    on('open', (now) => {
      this.#connection.opened(now);
      this.#tellState();
      for (const { membership } of this.#rooms.values()) membership.connected(now);
    });
    on('message', (now, { data }) => {
      this.#connection.heard(now);
      this.#receive(data, now);
    });
    on('close', (now, { code, reason }) => {
      this.#lost(now, { code, reason: reason && `the server closed it: ${reason}`, ...refusal });
    });
    on('error', () => {});
    // No browser shows why it was refused, but `ws` does.
    socket.on?.('unexpected-response', (/** @type {any} */ _, /** @type {any} */ { statusCode, headers }) => {
      const retryAfter = Number(headers['retry-after']) * 1000 || 0;
      refusal = { retryAfter, reason: `the server refused it with status ${statusCode}` };
      hangUp(socket, 'terminate');
    });
  }

  /** @param {number} now @param {{ code?: number, reason?: string, retryAfter?: number }} end */
  #lost(now, end) {
    if (end.code === 1009) {
      // Sent again, it would close every connection.
      const [, id] = /id=(.*)$/s.exec(end.reason ?? '') ?? [];
      for (const { membership } of this.#rooms.values()) membership.tooBig(id);
    }
    this.#connection.lost(now, end);
    this.#disconnected();
  }

  #disconnected() {
    this.#socket = undefined;
    this.#dialling?.abort();
    for (const { membership, room } of this.#rooms.values()) {
      membership.disconnected();
      this.#agenda.push(() => room.deliver('interrupted'));
    }
  }

  /** @param {unknown} data @param {number} now */
  #receive(data, now) {
    /** @type {Frame} */
    let frame;
    try {
      frame = JSON.parse(String(data));
    } catch {
      return;
    }
    const membership = this.#rooms.get(frame.room ?? '')?.membership;
    if (membership) membership.receive(frame, now);
    else if (frame.type === 'reconnect') this.#connection.noticed();
    else if (frame.type === 'broadcast') this.#agenda.push(() => this.#emitter.emit('broadcast', /** @type {any} */ (frame)));
    else if (frame.type === 'error' && !frame.room) {
      const error = new RoomcastError(frame.code ?? 'unknown', frame.message ?? 'the server refused a frame');
      this.#agenda.push(() => this.#report(error));
    }
  }

  /** @param {Effect} effect @param {Room} room @param {WebSocketLike | undefined} socket The one of when it was decided. */
  #carryOut(effect, room, socket) {
    const [what] = effect;
    if (what === 'send') return this.#transmit(socket, effect[1]);
    if (what === 'emit') return room.deliver(effect[1], effect[2]);
    if (what === 'refused') return room.end(effect[1]);
    const [, unsent] = effect;
    if (what === 'put') {
      this.#keep((store) => store.put(unsent));
    } else {
      const pending = this.#forget(unsent.id);
      this.#keep((store) => store.delete(unsent.id));
      if (what === 'kept') {
        pending?.resolve?.(effect[2]);
      } else {
        pending?.reject?.(effect[2]);
        room.tell('failed', { unsent, error: effect[2] });
      }
    }
    room.tell('unsent', room.unsent);
  }

  /** @param {WebSocketLike | undefined} socket @param {object} frame */
  #transmit(socket, frame) {
    try {
      socket?.send(JSON.stringify(frame));
    } catch {
      // It is about to close, and that is when it is sent again.
    }
  }

  /**
   * @param {Membership} membership @param {Room} room @param {string} text @param {SendOptions} [options]
   * @returns {Promise<Position | undefined>}
   */
  async #send(membership, room, text, { id = newId(), signal } = {}) {
    signal?.throwIfAborted();
    if (room.state.name === 'left') throw room.state.error ?? new RoomcastError('left', 'the room was left');
    const bytes = lengthOf(text);
    const { maxUnsent, maxUnsentBytes } = this.#options;
    if (this.#pending.size >= maxUnsent || this.#bytes + bytes > maxUnsentBytes) {
      throw new RoomcastError('queue_full', 'too much is waiting to be sent');
    }
    if (this.#pending.has(id)) throw new RoomcastError('id_conflict', 'a message with this id is being sent');
    /** @type {Promise<Position | undefined>} */
    const outcome = new Promise((resolve, reject) => this.#remember(id, { bytes, resolve, reject }));
    const takeBack = () => {
      const pending = this.#forget(id);
      this.#step((now) => membership.drop(id, now));
      this.#keep((store) => store.delete(id));
      pending?.reject?.(signal?.reason);
      room.tell('unsent', room.unsent);
    };
    signal?.addEventListener('abort', takeBack);
    this.#step((now) => {
      membership.add({ id, room: room.name, username: membership.username, text, at: now, sent: false }, now);
    });
    try {
      return await outcome;
    } finally {
      signal?.removeEventListener('abort', takeBack);
    }
  }

  /** @param {string} id @param {Pending} pending */
  #remember(id, pending) {
    this.#pending.set(id, pending);
    this.#bytes += pending.bytes;
  }

  /** @param {string} id */
  #forget(id) {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    this.#bytes -= pending?.bytes ?? 0;
    return pending;
  }

  /** @param {(store: NonNullable<ConnectOptions['store']>) => void | Promise<void>} change */
  async #keep(change) {
    try {
      if (this.#options.store) await change(this.#options.store);
    } catch (error) {
      this.#report(error);
    }
  }

  /** @param {unknown} error */
  #report(error) {
    if (!this.#emitter.emit('error', error)) console.error(error);
  }

  /** The end for good: no timer, no socket, no event after it. @param {State & { name: 'closed' }} state */
  #end(state) {
    const byUser = this.state !== state;
    if (this.#life.signal.aborted) return;
    this.#life.abort();
    this.#dialling?.abort();
    clearTimeout(this.#timer);
    this.#agenda = [];
    hangUp(this.#socket, this.state.name === 'open' ? 'close' : 'terminate');
    this.#socket = undefined;
    this.#connection.close(state);
    // Loops of those who close the client themselves just end.
    const error = byUser ? undefined : new RoomcastError('closed', state.why);
    for (const { room, membership } of this.#rooms.values()) {
      for (const { id, sent } of membership.unsent) {
        this.#forget(id)?.reject?.(new RoomcastError('closed', `the client was closed: ${state.why}`, sent));
      }
      room.end(error);
    }
    this.#rooms.clear();
    this.#emitter.emit('state', state);
    this.#emitter.clear();
  }
}

/** @param {any} socket @param {'close' | 'terminate'} how `terminate` waits for nobody, where a socket has it. */
function hangUp(socket, how) {
  try {
    if (how === 'terminate' && socket?.terminate) socket.terminate();
    else socket?.close(1000);
  } catch {
    // It was not open yet, or it is gone already.
  }
}

/** A name that nobody can guess. Not `randomUUID`, which is there only over https. */
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
