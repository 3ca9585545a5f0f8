/** @import { Frame } from './membership.js' */
/** @import { RoomcastError } from './error.js' */

/**
 * A part of a room's history that somebody waits for.
 *
 * @typedef {object} Page
 * @property {object} wish `before` and `limit`.
 * @property {{ readonly aborted: boolean }} late Whether nobody waits any more.
 * @property {(answer: Frame) => void} resolve
 * @property {(error: RoomcastError) => void} reject
 */

/** The pages of one room. One is asked for at a time, and in order, as an answer does not say which it is about. */
export class Pages {
  /** Whether the first one has been asked for. */
  isReading = false;
  /** @type {Page[]} */
  #waiting = [];

  /** @param {Page} page */
  queue(page) {
    this.#waiting.push(page);
  }

  /** What to ask for now, if anything. */
  ask() {
    if (this.isReading) return;
    this.#waiting = this.#waiting.filter(({ late }) => !late.aborted);
    this.isReading = this.#waiting.length > 0;
    return this.#waiting[0]?.wish;
  }

  /** The first one was answered, or will not be. */
  first() {
    this.isReading = false;
    return this.#waiting.shift();
  }

  /** @param {RoomcastError} error */
  end(error) {
    for (let page; (page = this.first()); ) page.reject(error);
  }
}
