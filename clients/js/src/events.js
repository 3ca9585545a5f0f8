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
  /** The line that has not ended yet, and whether what came last was a CR, so that an LF belongs to it. */
  #rest = '';
  #endsInCr = false;
  /** The event that has not ended yet. @type {{ data?: string, event?: string, id?: string }} */
  #begun = {};

  /**
   * @param {Uint8Array} bytes
   * @returns {StreamEvent[]} Those that have ended.
   * @throws If one is too long.
   */
  read(bytes) {
    const text = this.#decoder.decode(bytes, { stream: true });
    if (!text) return [];
    const lines = (this.#rest + text.slice(+(this.#endsInCr && text[0] === '\n'))).split(/\r\n?|\n/);
    this.#endsInCr = text.endsWith('\r');
    this.#rest = /** @type {string} */ (lines.pop());
    const events = lines.flatMap((line) => this.#line(line));
    if (this.#rest.length + (this.#begun.data ?? '').length > LONGEST) throw new Error('an event is too long');
    return events;
  }

  /** @param {string} line @returns {StreamEvent[]} */
  #line(line) {
    if (!line) {
      const { data, event, id } = this.#begun;
      this.#begun = {};
      return data === undefined ? [] : [{ data, event, id }];
    }
    const [, name, value] = /** @type {string[]} */ (/^([^:]*):? ?(.*)$/s.exec(line));
    if (name === 'data') this.#begun.data = this.#begun.data === undefined ? value : `${this.#begun.data}\n${value}`;
    else if (name === 'event' || name === 'id') this.#begun[name] = value;
    return [];
  }
}
