/** Longest event, in characters; a frame has 136 KiB at most. */
const LONGEST = 1 << 20;

/**
 * An event of a stream.
 *
 * @typedef {object} StreamEvent
 * @property {string} data
 * @property {string} [event]
 * @property {string} [id] Only if the event has one of its own.
 */

/** Reads a stream of server-sent events, in whatever pieces its bytes come. */
export class EventReader {
  #decoder = new TextDecoder();
  /** The event that has not ended yet. */
  #rest = '';

  /**
   * @param {Uint8Array} bytes
   * @returns {StreamEvent[]} Those that have ended.
   * @throws {RangeError} If one is too long.
   */
  feed(bytes) {
    // If a CR ended an event and its LF comes later, the next event begins with an empty line, which means nothing.
    const blocks = (this.#rest + this.#decoder.decode(bytes, { stream: true })).split(/(?:\r\n|\r(?!\n)|\n){2}/);
    this.#rest = /** @type {string} */ (blocks.pop());
    if (this.#rest.length > LONGEST) throw new RangeError();
    return blocks.map(eventOf).filter(({ data }) => data !== undefined);
  }
}

/** @param {string} block @returns {StreamEvent} */
function eventOf(block) {
  /** @type {any} */
  const event = {};
  for (const line of block.split(/\r\n?|\n/)) {
    const [, name, value] = /** @type {string[]} */ (/^([^:]*):? ?(.*)/.exec(line));
    event[name] = name === 'data' && event.data !== undefined ? `${event.data}\n${value}` : value;
  }
  return event;
}
