/** @import { StreamEvent } from './events.js' */
import { EventReader } from './events.js';

/** How long the server may take to answer a request. */
const PATIENCE = 15_000;

/**
 * A room that is to be heard.
 *
 * @typedef {object} Heard
 * @property {number} last How many of the last messages are wanted; all, after a place.
 * @property {string} [place] The position from which a stream goes on.
 * @property {number} [since] The first stream that has been asked for the room, by its number.
 * @property {boolean} [isIn] Whether the server has said `joined`.
 */

/**
 * A connection over HTTP alone that looks like a WebSocket: what the server says comes as one stream of events, and each thing
 * that we say is a request, whose answer is turned into the frame that a WebSocket would have brought. A stream cannot change
 * its rooms: another one takes its place, from the positions of the one before.
 */
export class Stream {
  #base;
  #token;
  /** Our name in all rooms, as given, and as the server has told it. @type {string | undefined} */
  #name;
  /** @type {string | undefined} */
  #user;
  /** @type {Record<string, (event: any) => void>} */
  #listeners = {};
  /** By name. @type {Map<string, Heard>} */
  #rooms = new Map();
  /** Runs until what is changed in one go has been changed. @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** The stream that is read, and the one that shall take its place. @type {AbortController | undefined} */
  #current;
  /** @type {AbortController | undefined} */
  #next;
  #count = 0;
  /** The last broadcast: two streams that overlap may bring it twice. @type {any} */
  #broadcast = {};
  /** There as soon as it has opened. @type {Promise<void> | undefined} */
  #opening;
  #isOver = false;

  /** @param {string} url The address of the WebSocket. @param {string} [token] */
  constructor(url, token) {
    this.#base = url.replace(/^ws/, 'http').replace(/(\/ws)?\/?(\?.*)?$/, '/v1/');
    this.#token = token;
    this.#change();
  }

  /** @param {string} type @param {(event: any) => void} listener */
  addEventListener(type, listener) {
    this.#listeners[type] = listener;
  }

  /** @param {string} json */
  send(json) {
    if (this.#isOver) return;
    const { type, ...frame } = JSON.parse(json);
    const { room, username, after, last = 0, before, token } = frame;
    if (type === 'history') {
      if (before) frame.before = placeOf(before);
      this.#ask(room, `messages?${new URLSearchParams(frame)}`, undefined, type, 'messages');
    } else if (type === 'message' || type === 'signal') {
      const body = JSON.stringify({ username: this.#name, ...frame });
      // Nothing answers a signal.
      const [answer, sign] = type === 'signal' ? ['', 'status'] : ['ack', 'duplicate'];
      this.#ask(room, `${type}s`, body, answer, sign, frame.id);
    } else {
      if (type === 'join') {
        // A stream has one name. Whoever has another waits for a WebSocket, or until the others are gone.
        if (!this.#rooms.size) this.#name = username;
        if (this.#name !== username) return this.#say(errorOf({}, room));
        this.#rooms.set(room, { last: after ? Infinity : last, place: after && placeOf(after) });
      }
      if (type === 'leave') {
        this.#rooms.delete(room);
        this.#say({ type: 'left', room });
      }
      if (type === 'auth') this.#token = token;
      // Another stream shows at once whether this one is dead; without rooms there is none.
      if (type === 'ping' && !this.#rooms.size) return this.#say({ type: 'pong' });
      this.#change();
    }
  }

  close() {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#next?.abort();
    this.#current?.abort();
  }

  /** @param {{ code?: number, reason?: string, retryAfter?: number }} [end] */
  #end(end = {}) {
    this.close();
    this.#fire('close', end);
  }

  /** As with a WebSocket, nothing happens before the call that leads to it has returned. @param {string} type @param {object} event */
  async #fire(type, event) {
    await undefined;
    this.#listeners[type]?.(event);
  }

  /** @param {object} frame */
  #say(frame) {
    this.#fire('message', { data: frame });
  }

  /** The rooms or the token are others now, or the stream is to be made anew. */
  #change() {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#listen();
    });
  }

  /** @param {string} path @param {AbortSignal} signal @param {Record<string, string>} headers @param {string} [body] */
  #fetch(path, signal, headers, body) {
    if (body) headers['content-type'] = 'application/json';
    if (this.#token) headers.authorization = `Bearer ${this.#token}`;
    return fetch(this.#base + path, { method: body && 'POST', headers, body, signal });
  }

  async #listen() {
    this.#next?.abort();
    if (!this.#rooms.size) return this.#take();
    const mine = (this.#next = new AbortController());
    const { signal } = mine;
    const number = ++this.#count;
    const query = new URLSearchParams(this.#name && { username: this.#name });
    const places = [];
    let most = 0;
    for (const [name, heard] of this.#rooms) {
      heard.since ??= number;
      query.append('room', name);
      if (heard.place) places.push(`${name}=${heard.place}`);
      else most = Math.max(most, heard.last);
    }
    if (most) query.set('last', `${most}`);
    const timer = setTimeout(() => this.#end(), PATIENCE);
    try {
      const response = await this.#fetch(`events?${query}`, signal, { 'last-event-id': places.join() });
      const { body, headers } = response;
      // What stands in between may answer with a page of its own.
      if (!body || !headers.get('content-type')?.includes('event-stream')) {
        const problem = await answerOf(response);
        if (!signal.aborted) this.#refused(problem);
        return;
      }
      this.#take(mine);
      clearTimeout(timer);
      const reader = new EventReader();
      const stream = body.getReader();
      for (let part; !(part = await stream.read()).done; ) {
        // Even a comment is a sign of life.
        this.#say({});
        for (const event of reader.feed(part.value)) if (!signal.aborted) this.#event(event, number);
      }
    } catch {
      // Nobody knows more than that it has ended.
    } finally {
      clearTimeout(timer);
    }
    if (!signal.aborted) this.#end();
  }

  /** The next stream takes the place of the one before. @param {AbortController} [next] */
  #take(next) {
    this.#current?.abort();
    this.#current = next;
    this.#next = undefined;
    this.#opening ??= this.#fire('open', {});
  }

  /** There is no next stream. @param {any} problem */
  #refused(problem) {
    const { status, code, detail, room, retry_after_ms: retryAfter } = problem;
    if (status === 401) return this.#shutOut(problem);
    // With 400 and 403 whoever wants to come in is refused, as for a wrong name.
    const fresh = [...this.#rooms.keys()].filter((name) => code && status < 404 && !this.#rooms.get(name)?.isIn);
    const names = room ? [room] : fresh;
    if (!names.length) return this.#end({ reason: detail ?? `${status}`, retryAfter });
    for (const name of names) this.#lose(name, errorOf(problem, name));
    this.#change();
  }

  /** @param {any} problem */
  #shutOut(problem) {
    this.#say(errorOf(problem));
    this.#end({ code: 4501 });
  }

  /** The server does not let us into this room, or not again. @param {string} room @param {object & { code?: string }} error */
  #lose(room, error) {
    const wasIn = this.#rooms.get(room)?.isIn;
    this.#rooms.delete(room);
    this.#say(wasIn ? { type: 'left', room, reason: error.code } : error);
  }

  /** @param {StreamEvent} event @param {number} number Of its stream. */
  #event({ event, data, id }, number) {
    const frame = JSON.parse(data);
    const { type, room, epoch, seq, username } = frame;
    if (event === 'close') {
      // A stream without a room ends, but we may still be about to join one.
      if (frame.code === 1000) this.#current?.abort();
      else this.#end(frame);
      return;
    }
    if (room) {
      /** @type {any} */
      const heard = this.#rooms.get(room);
      // Of a room that was left, or that was joined anew since this stream was asked for.
      if (!(heard?.since <= number)) return;
      if (type === 'error') return this.#lose(room, frame);
      if (type === 'left') this.#rooms.delete(room);
      if (type === 'joined' && !heard.isIn) {
        heard.isIn = true;
        // All rooms of a stream get equally many of the last messages. What this one did not ask for lies before its position.
        frame.seq = Math.max(seq, frame.until - heard.last || 0);
        if (!heard.last) delete frame.until;
      }
      if (type === 'signal' && username === (this.#user ?? this.#name?.normalize())) return;
      // What has an id moves the position of its room.
      if (id) heard.place = placeOf(frame);
    }
    if (type === 'broadcast') {
      if (epoch === this.#broadcast.epoch && seq <= this.#broadcast.seq) return;
      this.#broadcast = frame;
    }
    if (type === 'authenticated') this.#user = username;
    this.#say(frame);
  }

  /**
   * Asks something about a room, and says the answer.
   *
   * @param {string} room @param {string} path @param {string | undefined} body
   * @param {string} type Of the frame that says it.
   * @param {string} sign What is in each answer of the server's, and not in those of what stands in between.
   * @param {string} [id]
   */
  async #ask(room, path, body, type, sign, id) {
    let answer;
    try {
      const url = `rooms/${encodeURIComponent(room)}/${path}`;
      const response = await this.#fetch(url, AbortSignal.timeout(PATIENCE), {}, body);
      answer = await answerOf(response);
      if (response.ok && sign in answer) return this.#say({ ...answer, type, room, id });
    } catch {
      answer = {};
    }
    if (answer.status === 401) this.#shutOut(answer);
    else this.#say(errorOf(answer, room, id));
  }
}

/** What is in an answer, as far as it is the server's. @param {Response} response @returns {Promise<any>} */
async function answerOf(response) {
  return { status: response.status, ...(await response.json().catch(() => ({}))) };
}

/** The `error` of a WebSocket. Where nobody answered, nothing is clear. @param {any} problem @param {string} [room] @param {string} [id] */
function errorOf({ code = 'unavailable', detail, ...problem }, room, id) {
  return { ...problem, type: 'error', code, message: detail, room, id };
}

/** @param {{ epoch: string, seq: number }} position */
function placeOf({ epoch, seq }) {
  return `${epoch}:${seq}`;
}
