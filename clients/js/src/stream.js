/** @import { Frame } from './membership.js' */
/** @import { StreamEvent } from './events.js' */
import { EventReader } from './events.js';

/** How long the server may take to answer a request. */
const PATIENCE = 15_000;

/**
 * A room that is to be heard.
 *
 * @typedef {object} Heard
 * @property {string} [username]
 * @property {number} [last]
 * @property {string} [place] The position from which a stream goes on.
 * @property {number} [since] The first stream that has been asked for the room, by its number.
 * @property {boolean} [isIn] Whether the server has said `joined`.
 * @property {number} [skip] Up to where more was sent than asked for.
 */

/**
 * A connection over HTTP alone that looks like a WebSocket: what the server says comes as one stream of events, and each thing
 * that we say is a request, whose answer is turned into the frame that a WebSocket would have brought. A stream cannot change
 * its rooms: another one takes its place, from the positions of the one before.
 */
export class Stream {
  #base;
  #token;
  /** Our name, if the server has told it. @type {string | undefined} */
  #user;
  /** @type {Record<string, (event: any) => void>} */
  #listeners = {};
  /** @type {Map<string, Heard>} */
  #rooms = new Map();
  /** Runs until what is changed in one go has been changed. @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** The stream that is read, and the one that shall take its place. @type {AbortController | undefined} */
  #current;
  /** @type {AbortController | undefined} */
  #next;
  #count = 0;
  /** The place of the last broadcast: two streams that overlap may bring it twice. @type {Frame | undefined} */
  #broadcast;
  /** The token of which the server has said whose it is. @type {string | undefined} */
  #told;
  #isOpen = false;
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
    const { type, ...frame } = JSON.parse(json);
    const { room, username, after, last, before, limit, token } = frame;
    if (type === 'join') {
      const [[, first] = []] = this.#rooms;
      if (first && first.username !== username) {
        // It waits for a WebSocket, or until the others are left.
        return this.#soon({ type: 'error', code: 'unavailable', message: 'a stream has one name', room });
      }
      this.#rooms.set(room, { username, last, place: after && placeOf(after) });
      this.#change();
    } else if (type === 'leave') {
      this.#rooms.delete(room);
      this.#soon({ type: 'left', room });
      this.#change();
    } else if (type === 'auth') {
      this.#token = token;
      this.#change();
    } else if (type === 'ping') {
      // Another stream shows at once whether this one is dead.
      if (this.#rooms.size) this.#change();
      else this.#soon({ type: 'pong' });
    } else if (type === 'history') {
      const query = new URLSearchParams({ ...(before && { before: placeOf(before) }), ...(limit !== undefined && { limit }) });
      this.#ask(room, `messages?${query}`, undefined, ({ messages, ...page }) => messages && { type, messages, ...page });
    } else {
      const speaker = this.#rooms.get(room)?.username;
      const body = JSON.stringify({ username: speaker, ...frame });
      // Whatever has no number is not the server's answer, but that of something in between.
      const answer = (/** @type {any} */ { duplicate, epoch, seq }) => duplicate !== undefined && { type: 'ack', epoch, seq };
      this.#ask(room, `${type}s`, body, type === 'signal' ? () => ({}) : answer, frame.id);
    }
  }

  /** Ends it; nobody is told. */
  close() {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#next?.abort();
    this.#current?.abort();
    this.#current = this.#next = undefined;
  }

  /** @param {{ code?: number, reason?: string, retryAfter?: number }} end */
  #end(end) {
    if (this.#isOver) return;
    this.close();
    this.#fire('close', end);
  }

  /** @param {string} type @param {object} event */
  #fire(type, event) {
    this.#listeners[type]?.(event);
  }

  /** @param {object} frame */
  #say(frame) {
    if (!this.#isOver) this.#fire('message', { data: frame });
  }

  /** What a WebSocket would not say before `send` has returned. @param {object} frame */
  async #soon(frame) {
    await undefined;
    this.#say(frame);
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
    if (this.#token) headers.authorization = `Bearer ${this.#token}`;
    return fetch(this.#base + path, { method: body ? 'POST' : 'GET', cache: 'no-store', headers, body, signal });
  }

  async #listen() {
    this.#next?.abort();
    const mine = (this.#next = new AbortController());
    const number = ++this.#count;
    const isMine = () => this.#next === mine || this.#current === mine;
    const rooms = [...this.#rooms];
    const query = new URLSearchParams(rooms.map(([name]) => ['room', name]));
    const places = [];
    let most = 0;
    for (const [name, heard] of rooms) {
      heard.since ??= number;
      if (heard.username) query.set('username', heard.username);
      if (heard.place) places.push(`${name}=${heard.place}`);
      else most = Math.max(most, heard.last ?? 0);
    }
    if (most) query.set('last', `${most}`);
    const timer = setTimeout(() => mine.abort(), PATIENCE);
    try {
      if (rooms.length) {
        const response = await this.#fetch(`events?${query}`, mine.signal, { 'last-event-id': places.join() });
        if (!isMine()) return;
        const { body, headers } = response;
        // What stands in between may answer with a page of its own.
        if (!response.ok || !body || !/^text\/event-stream/.test(headers.get('content-type') ?? '')) {
          const problem = await answerOf(response);
          return isMine() && this.#refused(problem);
        }
        this.#take(mine);
        clearTimeout(timer);
        const reader = new EventReader();
        const stream = body.getReader();
        for (let part; !(part = await stream.read()).done && isMine(); ) {
          // Even a comment is a sign of life.
          this.#say({});
          for (const event of reader.read(part.value)) if (isMine()) this.#event(event, number);
        }
        if (isMine()) this.#end({});
      } else {
        this.#take(undefined);
      }
    } catch (error) {
      if (isMine()) this.#end({ reason: `${error}` });
    } finally {
      clearTimeout(timer);
    }
  }

  /** The next stream takes the place of the one before. @param {AbortController | undefined} next */
  #take(next) {
    this.#current?.abort();
    this.#current = next;
    this.#next = undefined;
    if (!this.#isOpen) this.#fire('open', {});
    this.#isOpen = true;
  }

  /** There is no next stream. @param {any} problem */
  #refused(problem) {
    const { status, code, detail, room, retry_after_ms: retryAfter } = problem;
    if (status === 401) return this.#shutOut(problem);
    if (!room && !(status === 400 && code)) return this.#end({ reason: `the server refused it: ${detail ?? status}`, retryAfter });
    for (const name of room ? [room] : [...this.#rooms.keys()]) this.#lose(name, errorOf(problem, name));
    this.#change();
  }

  /** @param {any} problem */
  #shutOut(problem) {
    this.#say(errorOf(problem));
    this.#end({ code: 4501, reason: problem.detail });
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
    const heard = this.#rooms.get(room);
    if (event === 'close') {
      // A stream without a room ends, but we may still be about to join one.
      if (frame.code === 1000) this.#current = undefined;
      else this.#end(frame);
      return;
    }
    if (room) {
      // Of a room that was left, or that was joined anew since this stream was asked for.
      if (!heard?.since || heard.since > number) return;
      if (type === 'error') return this.#lose(room, frame);
      if (type === 'left') this.#rooms.delete(room);
      if (type === 'joined' && !heard.isIn) this.#enter(heard, frame);
      if (type === 'reset') heard.skip = 0;
    }
    for (const [name, place] of (id ?? '').split(',').map((each) => each.split('='))) {
      const other = this.#rooms.get(name);
      if (other?.since && other.since <= number) other.place = place;
    }
    if (type === 'signal' && username === (this.#user ?? shown(heard?.username))) return;
    if (type === 'message' && seq <= (heard?.skip ?? 0)) return;
    if (type === 'broadcast') {
      if (epoch === this.#broadcast?.epoch && seq <= (this.#broadcast?.seq ?? 0)) return;
      this.#broadcast = frame;
    }
    if (type === 'authenticated') {
      if (this.#told === this.#token) return;
      this.#told = this.#token;
      this.#user = username;
    }
    this.#say(frame);
  }

  /** All rooms of a stream get equally many of the last messages: passes over those that this one did not ask for. @param {Heard} heard @param {any} joined */
  #enter(heard, joined) {
    heard.isIn = true;
    const from = joined.resumed === undefined ? joined.until - (heard.last ?? 0) : 0;
    if (from > joined.seq) {
      heard.skip = joined.seq = from;
      if (!heard.last) delete joined.until;
    }
  }

  /**
   * Asks something about a room, and says the answer.
   *
   * @param {string} room @param {string} path @param {string | undefined} body
   * @param {(answer: any) => object | false | undefined} frameOf Nothing, if it is no answer of the server's.
   * @param {string} [id]
   */
  async #ask(room, path, body, frameOf, id) {
    let problem;
    try {
      const headers = body && { 'content-type': 'application/json' };
      const url = `rooms/${encodeURIComponent(room)}/${path}`;
      const response = await this.#fetch(url, AbortSignal.timeout(PATIENCE), { ...headers }, body);
      problem = await answerOf(response);
      const frame = response.ok && frameOf(problem);
      if (frame) return this.#say({ room, id, ...frame });
    } catch (error) {
      problem = { detail: `${error}` };
    }
    if (problem.status === 401) this.#shutOut(problem);
    else this.#say(errorOf(problem, room, id));
  }
}

/** What is in an answer, as far as it is the server's. @param {Response} response @returns {Promise<any>} */
async function answerOf(response) {
  return { status: response.status, ...(await response.json().catch(() => ({}))) };
}

/** The `error` of a WebSocket. Where nobody answered, nothing is clear. @param {any} problem @param {string} [room] @param {string} [id] */
function errorOf({ code = 'unavailable', detail = 'the server cannot be reached', right, retry_after_ms }, room, id) {
  return { type: 'error', code, message: detail, right, retry_after_ms, room, id };
}

/** @param {{ epoch: string, seq: number }} position */
function placeOf({ epoch, seq }) {
  return `${epoch}:${seq}`;
}

/** A name as the server writes it. @param {string} [name] */
function shown(name) {
  return name?.normalize().trim().replace(/\s+/g, ' ');
}
