/** @import { Transport } from '../roomcast.d.ts' */

/** After so many attempts in a row whose WebSocket never opened, it is a stream's turn. */
const ATTEMPTS = 2;
/** How long to be content with a stream, at first and at most. */
const FIRST = 30_000;
const LONGEST = 600_000;

/**
 * Which kind of connection to make, and when to try a WebSocket beside a stream: only decisions. `wake` wants to be called at
 * `wakeAt`.
 */
export class Fallback {
  /** The connection that is there, or was last. @type {Transport} */
  kind = 'websocket';
  wakeAt = Infinity;

  #has;
  #isOpen = false;
  /** WebSockets in a row that did not open. */
  #failed = 0;
  #pause = FIRST;
  /** When to try the next WebSocket, however often streams are cut until then. @type {number | undefined} */
  #tryAt;

  /** @param {readonly Transport[]} transports Those that are allowed. */
  constructor(transports) {
    this.#has = (/** @type {Transport} */ kind) => transports.includes(kind);
  }

  /** Chooses what to try. A stream without rooms has nothing to ask the server for. @param {boolean} hasRooms */
  dial(hasRooms) {
    this.#isOpen = false;
    const isStream = !this.#has('websocket') || (this.#has('stream') && hasRooms && this.#failed >= ATTEMPTS);
    return (this.kind = isStream ? 'stream' : 'websocket');
  }

  /** @param {Transport} kind @param {number} now */
  opened(kind, now) {
    this.kind = kind;
    this.#isOpen = true;
    if (kind === 'websocket') {
      this.#failed = 0;
      this.#pause = FIRST;
      this.#tryAt = undefined;
    } else if (this.#has('websocket')) {
      this.wakeAt = this.#tryAt ??= now + this.#pause;
    }
  }

  /** @param {boolean} isClear Whether the server itself has refused it, so that the network lets it through. */
  lost(isClear) {
    this.wakeAt = Infinity;
    // Where a stream fails too, each has its turn, as nobody knows what will work next.
    if (!this.#isOpen && !isClear) this.#failed = this.kind === 'stream' ? ATTEMPTS - 1 : this.#failed + 1;
  }

  /** @param {number} now @returns {boolean} Whether to try a WebSocket now. */
  wake(now) {
    if (now < this.wakeAt) return false;
    this.#pause = Math.min(2 * this.#pause, LONGEST);
    this.wakeAt = this.#tryAt = now + this.#pause;
    return true;
  }
}
