/** @import { ConnectOptions, Content, Position, Unsent } from '../roomcast.d.ts' */
import { RoomcastError } from './error.js';
import { sizeOf } from './membership.js';

/**
 * A `send` that is not settled; for those from before a reload nobody waits.
 *
 * @typedef {object} Pending
 * @property {number} bytes
 * @property {boolean} [sent] Whether it was ever sent.
 * @property {(position: Position | undefined) => void} [resolve]
 * @property {(error: unknown) => void} [reject]
 */

/** The unsent messages of all rooms: who waits for them, how many there may be, and the store in which they survive a reload. */
export class Outbox {
  #options;
  #report;
  /** By id. @type {Map<string, Pending>} */
  #pending = new Map();
  /** Bytes of what they say. */
  #bytes = 0;
  /** Messages from before a reload whose rooms have not been joined yet. @type {Unsent[]} */
  #restored = [];

  /** @param {{ maxUnsent: number, maxUnsentBytes: number, store?: ConnectOptions['store'] }} options @param {(error: unknown) => void} report */
  constructor(options, report) {
    this.#options = options;
    this.#report = report;
  }

  /** Reads the store. */
  async load() {
    try {
      this.#restored = [...((await this.#options.store?.all()) ?? [])];
    } catch (error) {
      this.#report(error);
    }
  }

  /** Takes out the messages from before a reload for this room and name. @param {string} room @param {string | undefined} username */
  restored(room, username) {
    const isOfRoom = (/** @type {Unsent} */ unsent) => unsent.room === room && unsent.username === username;
    const unsent = this.#restored.filter(isOfRoom);
    this.#restored = this.#restored.filter((unsent) => !isOfRoom(unsent));
    for (const each of unsent) this.#remember(each.id, { bytes: sizeOf(each) });
    return unsent;
  }

  /** Adds a message, and returns the promise of its `send`. @param {string} id @param {Content} content */
  take(id, content) {
    const bytes = sizeOf(content);
    const { maxUnsent, maxUnsentBytes } = this.#options;
    if (this.#pending.size >= maxUnsent || this.#bytes + bytes > maxUnsentBytes) {
      throw new RoomcastError('queue_full', 'too much is unsent');
    }
    if (this.#pending.has(id)) throw new RoomcastError('id_conflict', 'its id is in use');
    return /** @type {Promise<Position | undefined>} */ (
      new Promise((resolve, reject) => this.#remember(id, { bytes, resolve, reject }))
    );
  }

  /** Renews a message in the store. @param {Unsent} unsent */
  put(unsent) {
    const pending = this.#pending.get(unsent.id);
    if (pending) pending.sent = unsent.sent;
    this.#keep((store) => store.put(unsent));
  }

  /** Removes a message, here and in the store. Returns who waits for it. @param {string} id */
  release(id) {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    this.#bytes -= pending?.bytes ?? 0;
    this.#keep((store) => store.delete(id));
    return pending;
  }

  /** Rejects all that are pending; the store keeps what it has. @param {RoomcastError} error */
  end({ code, message }) {
    for (const { reject, sent } of this.#pending.values()) {
      reject?.(new RoomcastError(code, message, sent));
    }
  }

  /** @param {string} id @param {Pending} pending */
  #remember(id, pending) {
    this.#pending.set(id, pending);
    this.#bytes += pending.bytes;
  }

  /** @param {(store: NonNullable<ConnectOptions['store']>) => void | Promise<void>} change */
  async #keep(change) {
    try {
      if (this.#options.store) await change(this.#options.store);
    } catch (error) {
      this.#report(error);
    }
  }
}
