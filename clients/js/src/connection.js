/** @import { State } from '../roomcast.d.ts' */
/** @import { RoomcastError } from './error.js' */
import { backoff } from './backoff.js';

/** How long a connection may take to open. */
const DIAL = 15_000;
/** After so long a silence of the server it is asked for a sign of life, as a browser shows no pings of the server. */
const SILENCE = 20_000;
/** How long the server may take to give one. */
const PATIENCE = 10_000;
/** How often to look at the clock; a look that comes much too late shows that the machine slept. */
const LOOK = 5000;
/** After a connection that lasted this long, the next attempt comes soon again. */
const PEACE = 60_000;

/** What to do about a final close code, below 4500 and from there on. */
const MEND = 'update roomcast-client';
export const ASK = 'give another token, or ask who runs the server';

/** The close code for a token that has ended. */
export const ENDED = 4010;

/** Close codes below 4500 with which the server refuses this client for good. */
const FINAL = [1002, 1003, 1007, 1010];

/**
 * When to connect, to wait, and to give up on a connection: only decisions, without a socket, a clock or randomness
 * of its own. Each input may answer what is to be done: `dial` a new connection, `ping` on the one that is there, or
 * `drop` it without waiting for its end. `wake` wants to be called at `wakeAt`.
 *
 * @typedef {'dial' | 'ping' | 'drop' | undefined} Action
 */
export class Connection {
  /** @type {State} */
  state = { name: 'connecting' };
  wakeAt = Infinity;

  #random;
  #online = true;
  #attempt = 0;
  /** When the connection opened; `undefined` while there is none. @type {number | undefined} */
  #opened;
  #heard = 0;
  #silence = SILENCE;
  #looked = 0;
  /** Until when something must have come. */
  #deadline = Infinity;
  /** Whether it was given more time already because the machine slept. */
  #spared = false;
  /** Whether the server has said when it will close this connection. */
  #noticed = false;

  /** @param {() => number} random */
  constructor(random) {
    this.#random = random;
  }

  /** @param {number} now @param {boolean} online @returns {Action} */
  start(now, online) {
    this.#online = online;
    if (online) return this.#dial(now);
    this.#wait(now, 0, 'the network is away');
  }

  /** @param {number} now @param {number} [silence] After so long a silence it asks. */
  opened(now, silence = SILENCE) {
    this.#silence = silence;
    this.state = { name: 'open' };
    this.#opened = this.#looked = now;
    this.heard(now);
    this.wakeAt = now + LOOK;
  }

  /** Something came from the server. @param {number} now */
  heard(now) {
    this.#heard = now;
    this.#deadline = Infinity;
    this.#spared = false;
  }

  /** The server has said that it will close this connection. */
  noticed() {
    this.#noticed = true;
  }

  /**
   * The connection is gone, or could not be made.
   *
   * @param {number} now
   * @param {{ code?: number, reason?: string, retryAfter?: number, error?: RoomcastError }} end `retryAfter` is in
   *   milliseconds; `error` is what the server said before.
   */
  lost(now, { code = 0, reason, retryAfter = 0, error }) {
    const lasted = this.#opened === undefined ? -1 : now - this.#opened;
    if (lasted >= PEACE) this.#attempt = 0;
    const why = reason || (lasted < 0 ? 'no connection could be made' : 'the connection was lost');
    // With another token it may come back at once, unless that has just been of no use.
    const awaited = code === ENDED ? !this.#attempt : this.#noticed && code === 1012;
    this.#opened = undefined;
    this.#noticed = false;
    if (FINAL.includes(code) || (code >= 4500 && code <= 4999)) {
      this.state = { name: 'closed', why: `${code} ${why}`, remedy: code < 4500 ? MEND : ASK, error };
      this.wakeAt = Infinity;
    } else {
      const wait = awaited ? 0 : backoff(this.#attempt, this.#random) + retryAfter;
      this.#attempt++;
      this.#wait(now, wait, why, error);
    }
  }

  /**
   * The network has come or gone, or somebody looks at the page again: act at once.
   *
   * @param {number} now @param {boolean} online @returns {Action}
   */
  network(now, online) {
    this.#online = online;
    if (this.state.name === 'open') return this.#ask(now);
    if (this.state.name !== 'waiting') return;
    if (online) return this.#dial(now);
    this.#wait(now, 0, 'the network is away');
  }

  /** @param {number} now @returns {Action} */
  wake(now) {
    if (now < this.wakeAt && now >= this.#looked) return;
    if (this.state.name === 'waiting') return this.#dial(now);
    if (this.state.name === 'connecting') {
      this.lost(now, { reason: 'the server did not answer' });
      return 'drop';
    }
    const slept = !(now - this.#looked < 3 * LOOK) || now < this.#looked;
    this.#looked = now;
    this.wakeAt = now + LOOK;
    if (now >= this.#deadline && (!slept || this.#spared)) {
      this.lost(now, { reason: 'the server fell silent' });
      return 'drop';
    }
    if (slept) {
      // An answer may still be under way, or the network may have changed: ask again, but only once.
      this.#spared = this.#deadline < Infinity;
      this.#deadline = Infinity;
      return this.#ask(now);
    }
    if (now - this.#heard >= this.#silence) return this.#ask(now);
  }

  /** @param {number} now @returns {Action} */
  #dial(now) {
    this.state = { name: 'connecting' };
    this.#looked = now;
    this.wakeAt = now + DIAL;
    return 'dial';
  }

  /** @param {number} now @param {number} time @param {string} why @param {RoomcastError} [error] */
  #wait(now, time, why, error) {
    const until = this.#online ? now + time : undefined;
    this.state = { name: 'waiting', why, until, error };
    this.#looked = now;
    this.wakeAt = until ?? Infinity;
  }

  /** @param {number} now @returns {Action} */
  #ask(now) {
    if (this.#deadline < Infinity) return;
    this.#deadline = now + PATIENCE;
    return 'ping';
  }
}
