/** @import { Transport } from '../roomcast.d.ts' */

/** After so many attempts in a row whose WebSocket never opened, it is a stream's turn. */
const ATTEMPTS = 2;
/** How long to be content with a stream, at first and at most. */
const FIRST = 30_000;
const LONGEST = 600_000;

/** Which kind of connection to make, and when to try a WebSocket beside a stream: only decisions. `wake` wants to be called at `wakeAt`. */
export class Fallback {
  wakeAt = Infinity;

  #transports;
  /** WebSockets in a row that did not open. */
  #failed = 0;
  #pause = FIRST;

  /** @param {readonly Transport[]} transports Those that are allowed. */
  constructor(transports) {
    this.#transports = transports;
  }

  /** What to try next. A stream without rooms has nothing to ask the server for. @param {boolean} hasRooms @returns {Transport} */
  next(hasRooms) {
    const [hasSockets, hasStreams] = ['websocket', 'stream'].map((/** @type {any} */ name) => this.#transports.includes(name));
    return !hasSockets || (hasStreams && hasRooms && this.#failed >= ATTEMPTS) ? 'stream' : 'websocket';
  }

  /** @param {Transport} kind @param {number} now */
  opened(kind, now) {
    if (kind === 'websocket') {
      this.#failed = 0;
      this.#pause = FIRST;
      this.wakeAt = Infinity;
    } else if (this.#transports.includes('websocket')) {
      this.wakeAt = now + this.#pause;
    }
  }

  /** One did not open. Where a stream fails too, each has its turn, as nobody knows what will work next. @param {Transport} kind */
  failed(kind) {
    this.#failed = kind === 'websocket' ? this.#failed + 1 : ATTEMPTS - 1;
  }

  lost() {
    this.wakeAt = Infinity;
  }

  /** @param {number} now @returns {boolean} Whether to try a WebSocket now. */
  wake(now) {
    if (now < this.wakeAt) return false;
    this.#pause = Math.min(2 * this.#pause, LONGEST);
    this.wakeAt = now + this.#pause;
    return true;
  }
}
