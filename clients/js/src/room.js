/** @import { Gap, JoinOptions, Message, Position, Room as PublicRoom, RoomEvents, RoomState, Unsent } from '../roomcast.d.ts' */
/** @import { Membership } from './membership.js' */
import { Emitter } from './emitter.js';
import { RoomcastError } from './error.js';

/** How far a loop may fall behind. */
const BEHIND = 10_000;

/** How long `load` may take; it may be as far behind as a loop. */
const LOADING = 10_000;
const LATE = 'a gap was not loaded in time';

/**
 * A room for its user: events, promises and loops around a {@link Membership}. While the messages of a gap are
 * being loaded, the events after it are held back.
 *
 * @implements {PublicRoom}
 */
export class Room {
  /** @type {RoomState} */
  state = { name: 'joining' };

  /** The position of the last event that was delivered. @type {Position | undefined} */
  position;
  send;
  signal;
  history;
  leave;

  #membership;
  #load;
  #report;
  /** @type {Emitter<RoomEvents>} */
  #emitter;
  /** Events that wait until a gap has been loaded. @type {[string, any][] | undefined} */
  #held;
  /** @type {AbortController | undefined} */
  #loading;

  /**
   * @param {Membership} membership
   * @param {JoinOptions['load']} load
   * @param {Pick<PublicRoom, 'send' | 'signal' | 'history' | 'leave'> & { report: (error: unknown) => void }} acts
   */
  constructor(membership, load, { send, signal, history, leave, report }) {
    this.#membership = membership;
    this.position = membership.position;
    this.#load = load;
    this.send = send;
    this.signal = signal;
    this.history = history;
    this.leave = leave;
    this.#report = report;
    this.#emitter = new Emitter(report);
  }

  get name() {
    return this.#membership.name;
  }

  /** @returns {readonly Unsent[]} */
  get unsent() {
    return this.#membership.unsent;
  }

  /** @type {PublicRoom['on']} */
  on(type, listener, options) {
    return this.#emitter.on(type, listener, options);
  }

  async *[Symbol.asyncIterator]() {
    /** @type {Message[]} */
    const waiting = [];
    let wake = () => {};
    const listener = new AbortController();
    this.on('message', (message) => (waiting.length > BEHIND || waiting.push(message), wake()), listener);
    this.on('state', () => wake(), listener);
    try {
      for (;;) {
        if (waiting.length > BEHIND) throw new RoomcastError('slow_reader', 'the loop fell too far behind');
        const next = waiting.shift();
        if (next) yield next;
        else if (this.state.name !== 'left') await new Promise((resolve) => (wake = () => resolve(undefined)));
        else if (this.state.error) throw this.state.error;
        else return;
      }
    } finally {
      listener.abort();
    }
  }

  /** Something happened in the room. @param {string} type @param {any} event */
  deliver(type, event = undefined) {
    if (!this.#membership.wanted) return;
    // Nobody wants a signal that is late.
    if (this.#held && type !== 'signal') {
      this.#held.push([type, event]);
      if (this.#held.length > BEHIND) this.#loading?.abort(new Error(LATE));
    } else if (type === 'reset' && this.#load) {
      this.#fill(event, this.#load);
    } else if (type === 'interrupted') {
      if (this.state.name === 'joined') this.#become({ name: 'joining' });
    } else {
      this.#pass(type, event);
    }
  }

  /** @param {string} type @param {any} event */
  #pass(type, event) {
    const { position, upTo, epoch, seq } = event;
    if (type === 'message' && epoch) this.position = { epoch, seq };
    if (type === 'reset') this.position = upTo;
    if (type === 'joined') this.position = position;
    if (type === 'joined') this.#become({ name: 'joined' });
    this.tell(/** @type {keyof RoomEvents} */ (type), event);
  }

  /** Like `deliver`, for events that have no order with messages. @type {Emitter<RoomEvents>['emit']} */
  tell(type, event) {
    return this.#emitter.emit(type, event);
  }

  /** Ends the room: nothing is delivered any more, and no loop waits. @param {RoomcastError} [error] */
  end(error) {
    if (this.state.name === 'left') return;
    this.#loading?.abort(error);
    this.#become({ name: 'left', error });
    this.#emitter.clear();
  }

  /** @param {RoomState} state */
  #become(state) {
    this.state = state;
    this.tell('state', state);
  }

  /** @param {Omit<Gap, 'filled'>} gap @param {NonNullable<JoinOptions['load']>} load */
  async #fill(gap, load) {
    const loading = (this.#loading = new AbortController());
    const { signal } = loading;
    const timer = setTimeout(() => loading.abort(new Error(LATE)), LOADING);
    this.#held = [];
    /** @type {Message[]} */
    let messages = [];
    let filled = false;
    try {
      /** @type {Promise<never>} */
      const givenUp = new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      messages = [...(await Promise.race([load(gap, { signal }), givenUp]))];
      filled = true;
    } catch (error) {
      if (this.state.name !== 'left') this.#report(error);
    }
    clearTimeout(timer);
    const held = this.#held;
    this.#held = this.#loading = undefined;
    for (const message of messages) this.#pass('message', message);
    this.#pass('reset', { ...gap, filled });
    for (const [type, event] of held) this.deliver(type, event);
  }
}
