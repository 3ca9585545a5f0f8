/** @import { Chat, ChatEvents, ConnectOptions, Content, History, HistoryOptions, JoinOptions, Position,
 *    SendOptions, State, Transport, WebSocketLike } from '../roomcast.d.ts' */
/** @import { Action } from './connection.js' */
/** @import { Effect, Frame } from './membership.js' */
import { ASK, Connection, ENDED } from './connection.js';
import { Emitter } from './emitter.js';
import { RoomcastError } from './error.js';
import { Fallback } from './fallback.js';
import { Membership, NO_ANSWER, errorOf } from './membership.js';
import { Outbox } from './outbox.js';
import { Room } from './room.js';
import { Stream } from './stream.js';

/**
 * What the client needs from its environment, except sockets and timers.
 *
 * @typedef {object} Environment
 * @property {() => number} now
 * @property {() => number} random
 * @property {() => boolean} isOnline
 * @property {(listener: () => void, signal: AbortSignal) => void} watch Calls the listener when the network comes or goes, and
 *   when somebody looks at the page again.
 */

/** The names that a room may have; a server may allow fewer than these 512 characters, and says so. */
const ROOM = /^[\w.:~@-]{1,512}$/;

/** How long the server may take to answer, when somebody waits. */
const PATIENCE = 10_000;

/** A stream shows every 25 seconds that it lives; to ask is to make another one. */
const SILENCE_OF_STREAM = 40_000;

/** What is deeper than this, indented, the server cannot even read the id of, and so does not say which message it refuses. */
const TOO_DEEP = /\n {100}/;

/** Longest time that a timer can be set for. */
const LONGEST_TIMER = 1e9;

/**
 * The client around its state machines: it passes what happens (frames, time, the network) to them, and does what
 * they decide, in order.
 *
 * @implements {Chat}
 */
export class Client {
  #url;
  #options;
  #environment;
  #connection;
  #fallback;
  /** @type {Emitter<ChatEvents>} */
  #emitter = new Emitter((error) => console.error(error));
  /** @type {Map<string, { membership: Membership, room: Room }>} */
  #rooms = new Map();
  #outbox;
  /** @type {WebSocketLike | undefined} */
  #socket;
  /** A WebSocket that is being tried beside a stream. @type {WebSocketLike | undefined} */
  #trial;
  /** Ends the wait for a token. @type {AbortController | undefined} */
  #asking;
  /** The token that was shown last, and whether the server has not taken it yet. @type {string | undefined} */
  #token;
  #isFresh = false;
  /** Whose tokens these are. @type {string | undefined} */
  #user;
  /** Whether rooms can be joined: the server has said who we are, or has no keys to know it. */
  #isIn = false;
  /** Rooms that the server joins by itself, as far as nobody here is in them. @type {Map<string, Frame | undefined>} */
  #given = new Map();
  /** What the server said of why it is about to close. @type {{ reason?: string, retryAfter?: number, error?: RoomcastError }} */
  #refusal = {};
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** The state that was told last. */
  #told;
  /** What to do, in order; what a listener asks for meanwhile comes last. @type {(() => void)[]} */
  #agenda = [];
  #busy = false;
  /** Why it is closed, if it is. @type {RoomcastError | undefined} */
  #over;
  /** Ends all listeners. */
  #life = new AbortController();

  /** @param {string} url @param {ConnectOptions} options @param {Environment} environment */
  constructor(url, options, environment) {
    this.#url = url;
    const { transports = ['websocket', 'stream'] } = options;
    this.#fallback = new Fallback(transports);
    const { maxUnsent = 1000, maxUnsentBytes = 1 << 20, maxUnsentAge = 3_600_000, dedupWindow = 300_000 } = options;
    this.#options = { ...options, maxUnsent, maxUnsentBytes, maxUnsentAge, dedupWindow };
    this.#outbox = new Outbox(this.#options, (error) => this.#report(error));
    this.#environment = environment;
    this.#connection = new Connection(environment.random);
    this.#told = this.state;
    const { signal } = this.#life;
    options.signal?.addEventListener('abort', () => this.close(), { signal });
    environment.watch(() => this.#step((now) => this.#connection.network(now, environment.isOnline())), signal);
    if (options.signal?.aborted) this.close();
    else this.#begin();
  }

  get state() {
    return this.#connection.state;
  }

  get transport() {
    return this.state.name === 'open' ? this.#fallback.kind : undefined;
  }

  /** @type {Chat['on']} */
  on(type, listener, options) {
    return this.#emitter.on(type, listener, options);
  }

  /** @param {string} name @param {JoinOptions} [options] */
  join(name, options = {}) {
    const before = this.#rooms.get(name);
    if (before?.membership.wanted) return before.room;
    if (this.#over) throw this.#over;
    const { random } = this.#environment;
    const membership = new Membership(name, {
      ...this.#options,
      ...options,
      username: options.username ?? this.#options.username,
      given: this.#given,
      random,
      effect: (effect) => {
        const socket = this.#socket;
        this.#agenda.push(() => this.#carryOut(effect, room, socket));
      },
    });
    const leave = () =>
      this.#step(() => {
        membership.leave();
        // After its messages have been settled.
        this.#agenda.push(() => room.end());
      });
    const room = new Room(membership, options.load, {
      send: (message, options) => this.#send(membership, room, message, options),
      signal: (event, data) => this.#step(() => membership.signal(event, data)),
      history: (options) => this.#history(membership, options),
      leave,
      report: (error) => this.#report(error),
    });
    this.#rooms.set(name, { membership, room });
    this.#restore(membership);
    this.#step((now) => {
      if (!ROOM.test(name)) membership.refuse({ code: 'bad_room', message: 'a room has only A-Z a-z 0-9 - _ . : ~ @' });
      else if (before?.membership.phase === 'leaving') membership.follow();
      else if (this.#isIn) membership.connected(now);
    });
    return room;
  }

  close() {
    this.#end({ name: 'closed', why: 'you closed it', remedy: 'connect again' }, true);
  }

  /** Reads the store, then connects: what is in there says from where on rooms are joined. */
  async #begin() {
    await this.#outbox.load();
    for (const { membership } of this.#rooms.values()) this.#restore(membership);
    this.#step((now) => this.#connection.start(now, this.#environment.isOnline()));
  }

  /** @param {Membership} membership */
  #restore(membership) {
    membership.restore(this.#outbox.restored(membership.name, membership.username));
  }

  /** Handles an event, does what follows from it, and sets the next timer. @param {(now: number) => Action | void} happen */
  #step(happen) {
    if (this.#over) return;
    this.#act(happen(this.#environment.now()));
    this.#tellState();
    if (this.#busy) return;
    this.#busy = true;
    for (let next; (next = this.#agenda.shift()); ) {
      try {
        next();
      } catch (error) {
        this.#report(error);
      }
    }
    this.#busy = false;
    this.#setTimer();
  }

  /** @param {Action | void} action */
  #act(action) {
    if (action === 'dial') this.#agenda.push(() => this.#dial());
    if (action === 'ping') this.#transmit(this.#socket, { type: 'ping' });
    if (action === 'drop') this.#disconnected();
  }

  #tellState() {
    const { state } = this;
    if (state === this.#told) return;
    this.#told = state;
    this.#agenda.push(() => (state.name === 'closed' ? this.#end(state) : this.#emitter.emit('state', state)));
  }

  #setTimer() {
    clearTimeout(this.#timer);
    if (this.#over) return;
    let wakeAt = Math.min(this.#connection.wakeAt, this.#fallback.wakeAt);
    for (const [name, { membership }] of this.#rooms) {
      if (membership.phase === 'ended') this.#rooms.delete(name);
      else wakeAt = Math.min(wakeAt, membership.wakeAt);
    }
    if (wakeAt === Infinity) return;
    const wait = Math.min(Math.max(wakeAt - this.#environment.now(), 0), LONGEST_TIMER);
    this.#timer = setTimeout(() => {
      this.#step((now) => {
        for (const { membership } of this.#rooms.values()) membership.wake(now);
        if (this.#fallback.wake(now)) this.#agenda.push(() => this.#try());
        return this.#connection.wake(now);
      });
    }, wait);
  }

  #dial() {
    if (this.state.name !== 'connecting') return;
    // The URL has been looked at before: if it fails, there is no token, or one that cannot be a subprotocol.
    this.#withToken(() => this.#step((now) => this.#open(now)), (error) => this.#step((now) => this.#lost(now, { reason: String(error) })));
  }

  /**
   * Asks for a token, and uses it unless it comes too late.
   *
   * @param {() => void} use @param {(error?: unknown) => void} fail
   */
  async #withToken(use, fail) {
    const { getToken } = this.#options;
    this.#asking?.abort();
    const { signal } = (this.#asking = new AbortController());
    try {
      const token = getToken && (await getToken({ signal }));
      if (signal.aborted) return;
      if (this.state.name === 'open' && token === this.#token) return fail();
      this.#token = token;
      this.#isFresh = true;
      use();
    } catch (/** @type {any} */ error) {
      if (signal.aborted) return;
      if (error?.code === 'unauthorized' || error?.name === 'UnauthorizedError') this.#shutOut(error.message);
      else fail(error);
    }
  }

  /** Shows another token before the old one ends; if there is none yet, once more after a pause. @param {number} [pause] */
  #renew(pause) {
    this.#withToken(
      () => this.#transmit(this.#socket, { type: 'auth', token: this.#token }),
      () => {
        const timer = pause && setTimeout(() => this.#renew(), pause);
        this.#asking?.signal.addEventListener('abort', () => clearTimeout(timer));
      },
    );
  }

  /** No token will do. @param {string} why */
  #shutOut(why) {
    this.#end({ name: 'closed', why, remedy: ASK, error: new RoomcastError('unauthorized', why) });
  }

  /** @param {number} now */
  #open(now) {
    this.#refusal = {};
    const kind = this.#fallback.dial(this.#rooms.size > 0);
    this.#socket = this.#connect(kind);
    // A stream opens with its rooms.
    if (kind === 'stream') this.#enter(now);
  }

  /** @param {Transport} kind */
  #connect(kind) {
    const { WebSocket, getToken, originServer } = this.#options;
    const protocols = ['roomcast.v1'];
    if (originServer) protocols.push('roomcast.origin');
    if (getToken) protocols.push(`roomcast.bearer.${this.#token}`);
    /** @type {any} */
    const socket =
      kind === 'stream' ? new Stream(this.#url, this.#token) : new /** @type {NonNullable<typeof WebSocket>} */ (WebSocket)(this.#url, protocols);
    /** @type {Record<string, (now: number, event: any) => void>} */
    const listeners = {
      open: (now) => {
        this.#opened(now, kind);
        // A server with keys says first which rooms it joins by itself; another one only answers.
        if (kind === 'websocket' && getToken) this.#transmit(socket, { type: 'ping' });
        else if (kind === 'websocket') this.#enter(now);
      },
      message: (now, { data }) => {
        this.#connection.heard(now);
        this.#receive(data, now);
      },
      close: (now, { code, reason, retryAfter }) => {
        // What it has taken once, it may take anew.
        if (code === 4501 && getToken && !this.#isFresh) code = ENDED;
        this.#lost(now, { code, reason: reason && `the server closed it: ${reason}`, retryAfter, ...this.#refusal });
      },
      error: () => {},
    };
    for (const type in listeners) {
      socket.addEventListener(type, (/** @type {any} */ event) => {
        if (this.#trial === socket) this.#tried(socket, type);
        // Events of an abandoned socket do not count.
        if (this.#socket === socket) this.#step((now) => listeners[type](now, event));
      });
    }
    // No browser shows why it was refused, but `ws` does.
    socket.on?.('unexpected-response', (/** @type {any} */ _, /** @type {any} */ { statusCode, headers }) => {
      // With either of these it is the server's own word: sockets get through.
      const retryAfter = Number(headers['retry-after']) * 1000 || +(statusCode === 401);
      if (this.#socket === socket) this.#refusal = { retryAfter, reason: `the server refused it: ${statusCode}` };
      hangUp(socket);
    });
    return socket;
  }

  /** @param {number} now @param {Transport} kind */
  #opened(now, kind) {
    this.#connection.opened(now, kind === 'stream' ? SILENCE_OF_STREAM : undefined);
    this.#fallback.opened(kind, now);
    this.#tellState();
  }

  /** Tries a WebSocket beside the stream, with the same token. */
  #try() {
    hangUp(this.#trial);
    this.#trial = this.#connect('websocket');
  }

  /**
   * Something came from the WebSocket that is being tried. Only what the server says proves that it works; some proxies let one
   * open, and nothing through. Then it takes the place of the stream: rooms go on from their positions.
   *
   * @param {WebSocketLike} socket @param {string} type
   */
  #tried(socket, type) {
    if (type === 'open') this.#transmit(socket, { type: 'ping' });
    if (type === 'close') this.#trial = undefined;
    if (type !== 'message') return;
    this.#trial = undefined;
    this.#step((now) => {
      this.#disconnected();
      this.#socket = socket;
      this.#opened(now, 'websocket');
    });
  }

  /** Rooms can be joined. @param {number} now */
  #enter(now) {
    this.#isIn = true;
    for (const { membership } of this.#rooms.values()) membership.connected(now);
  }

  /** @param {number} now @param {{ code?: number, reason?: string, retryAfter?: number, error?: RoomcastError }} end */
  #lost(now, end) {
    if (end.code === 1009) {
      // If it were sent again, it would close every connection.
      const [, id] = /id=(.*)$/s.exec(end.reason ?? '') ?? [];
      for (const { membership } of this.#rooms.values()) membership.tooBig(id);
    }
    this.#connection.lost(now, end);
    this.#disconnected();
  }

  #disconnected() {
    const { retryAfter, error } = this.#refusal;
    // Without a socket there was no token.
    this.#fallback.lost(!!(retryAfter || error || !this.#socket));
    this.#hangUp();
    this.#isIn = false;
    this.#given.clear();
    this.#asking?.abort();
    for (const { membership } of this.#rooms.values()) membership.disconnected();
  }

  /** @param {boolean} [inOrder] */
  #hangUp(inOrder) {
    hangUp(this.#socket, inOrder);
    hangUp(this.#trial);
    this.#socket = this.#trial = undefined;
  }

  /** @param {any} data @param {number} now */
  #receive(data, now) {
    /** @type {any} */
    let frame = data;
    try {
      // A stream has read it already.
      if (typeof data === 'string') frame = JSON.parse(data) ?? {};
    } catch {
      return;
    }
    const { type, room } = frame;
    const membership = this.#rooms.get(room ?? this.#longest(frame))?.membership;
    if (membership) membership.receive(frame, now);
    else if (room) this.#keepPlace(frame);
    else if (type === 'reconnect') this.#connection.noticed();
    else if (type === 'broadcast') this.#agenda.push(() => this.#emitter.emit(type, frame));
    else if (type === 'authenticated') this.#admitted(frame, now);
    else if (type === 'pong') this.#enter(now);
    else if (type === 'expiring' && this.#options.getToken) this.#agenda.push(() => this.#renew(frame.in_ms / 3));
    else if (type === 'error') {
      const error = errorOf(frame);
      if (error.code === 'unauthorized') this.#refusal = { reason: error.message, error };
      else this.#agenda.push(() => this.#report(error));
    }
  }

  /**
   * The server has taken our token.
   *
   * @param {{ username: string, expires_ms?: number, rooms: string[] }} frame @param {number} now
   */
  #admitted({ username, expires_ms: expiresMs, rooms }, now) {
    this.#isFresh = false;
    // Rooms and unsent messages are those of one user.
    if ((this.#user ??= username) !== username) return this.#shutOut(`this token is of ${username}, and not of ${this.#user}`);
    // With a stream it joins none.
    for (const room of this.#fallback.kind === 'stream' ? [] : rooms) {
      const { phase = 'out' } = this.#rooms.get(room)?.membership ?? {};
      if (/out|joining|ended/.test(phase) && !this.#given.has(room)) this.#given.set(room, undefined);
    }
    this.#agenda.push(() => this.#emitter.emit('authenticated', { username, expiresMs, rooms }));
    this.#enter(now);
  }

  /** Keeps the place in a room that the server has joined by itself, until somebody asks for the room. @param {any} frame */
  #keepPlace({ type, room, epoch, seq, originServer }) {
    const given = this.#given.get(room);
    if (type === 'joined') this.#given.set(room, { type, epoch, seq, originServer });
    else if (type === 'left' || type === 'error') this.#given.delete(room);
    else if (given && seq) Object.assign(given, { epoch: epoch ?? given.epoch, seq });
  }

  /**
   * The room that a `bad_room` is about. It has no room in it, but as the characters are right, the longest name that is
   * being joined is too long for the server.
   *
   * @param {Frame} frame
   */
  #longest({ code }) {
    let longest = '';
    for (const [name, { membership }] of this.#rooms) {
      if (code === 'bad_room' && membership.phase === 'joining' && name.length > longest.length) longest = name;
    }
    return longest;
  }

  /** @param {Effect} effect @param {Room} room @param {WebSocketLike | undefined} socket The one at the time of the decision. */
  #carryOut(effect, room, socket) {
    const [what] = effect;
    if (what === 'send') return this.#transmit(socket, effect[1]);
    if (what === 'emit') return room.deliver(effect[1], effect[2]);
    if (what === 'report') return this.#report(effect[1]);
    if (what === 'refused') return room.end(effect[1]);
    if (what === 'put') this.#outbox.put(effect[1]);
    if (what === 'kept') this.#outbox.release(effect[1].id)?.resolve?.(effect[2]);
    if (what === 'dropped') this.#outbox.release(effect[1].id)?.reject?.(effect[2]);
    if (what === 'failed') {
      const [, unsent, error] = effect;
      this.#outbox.release(unsent.id)?.reject?.(error);
      room.tell('failed', { unsent, error });
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
   * @param {Membership} membership @param {Room} room @param {string | Content} message @param {SendOptions} [options]
   * @returns {Promise<Position | undefined>}
   */
  async #send(membership, room, message, { id, signal } = {}) {
    signal?.throwIfAborted();
    if (!membership.wanted) throw membership.error;
    id ||= newId();
    // As it is now: whoever changes it later does not change what is sent again.
    const json = JSON.stringify(typeof message === 'string' ? { text: message } : message, null, 1);
    const { text, data, event } = JSON.parse(json);
    const content = { text, data, event };
    if (TOO_DEEP.test(json)) throw new RoomcastError('bad_field', 'the data is too deep');
    const outcome = this.#outbox.take(id, content);
    const takeBack = () => {
      this.#step((now) => membership.drop(/** @type {string} */ (id), now, signal?.reason));
    };
    signal?.addEventListener('abort', takeBack);
    this.#step((now) => membership.add({ id, room: room.name, username: membership.username, ...content, at: now, sent: false }, now));
    try {
      return await outcome;
    } finally {
      signal?.removeEventListener('abort', takeBack);
    }
  }

  /** @param {Membership} membership @param {HistoryOptions} [options] @returns {Promise<History>} */
  async #history(membership, { before, limit } = {}) {
    if (!membership.wanted) throw membership.error;
    const wish = { before: before && { epoch: before.epoch, seq: before.seq }, limit };
    const late = AbortSignal.timeout(PATIENCE);
    const answer = new Promise((resolve, reject) => {
      late.addEventListener('abort', () => reject(errorOf(NO_ANSWER)));
      this.#step(() => membership.read({ wish, late, resolve, reject }));
    });
    const { epoch, messages, has_more: hasMore } = await answer;
    // Slim ones are of the epoch of the whole.
    return { messages: messages.map((/** @type {object} */ each) => ({ epoch, ...each })), hasMore };
  }

  /** @param {unknown} error */
  #report(error) {
    if (!this.#emitter.emit('error', error)) console.error(error);
  }

  /** The final end: no timer, no socket, no event after it. @param {State & { name: 'closed' }} state @param {boolean} [byUser] */
  #end(state, byUser) {
    if (this.#over) return;
    this.#life.abort();
    this.#asking?.abort();
    clearTimeout(this.#timer);
    this.#agenda = [];
    this.#hangUp(this.state.name === 'open');
    this.#connection.state = state;
    const error = (this.#over = state.error ?? new RoomcastError('closed', `the client is closed: ${state.why}`));
    this.#outbox.end(error);
    for (const { membership, room } of this.#rooms.values()) {
      membership.end(error);
      // When the user closes the client, loops just end.
      room.end(byUser ? undefined : error);
    }
    this.#rooms.clear();
    this.#emitter.emit('state', state);
    this.#emitter.clear();
  }
}

/**
 * @param {any} socket
 * @param {boolean} [inOrder] Otherwise do not wait for an answer: a socket of `ws` does so for half a minute. The browser's has no
 *   `terminate`.
 */
function hangUp(socket, inOrder) {
  try {
    if (socket?.terminate && !inOrder) socket.terminate();
    else socket?.close(1000);
  } catch {
    // It was not open yet, or it is gone already.
  }
}

/** A name that nobody can guess. Not `randomUUID`, which is there only over https. */
function newId() {
  return crypto.getRandomValues(new Uint32Array(4)).join('-');
}
