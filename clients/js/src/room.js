/** @import { Gap, JoinOptions, Message, Room as PublicRoom, RoomEvents, RoomState, Unsent } from '../roomcast.d.ts' */
/** @import { Membership } from './membership.js' */
import { Emitter } from './emitter.js';
import { RoomcastError } from './error.js';

/** How far a loop may fall behind. */
const BEHIND = 10_000;

/** How long `load` may take, and how many events are held back for it. */
const LOADING = 10_000;
const HELD = 1000;

/**
 * A room as its user has it: events, promises and loops around a {@link Membership}. While what is missing in a gap is
 * being loaded, the events after it are held back.
 *
 * @implements {PublicRoom}
 */
export class Room {
  /** @type {RoomState} */
  state = { name: 'joining' };

  #membership;
  #load;
  #send;
  #leave;
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
   * @param {{ send: PublicRoom['send'], leave: () => void, report: (error: unknown) => void }} chat
   */
  constructor(membership, load, { send, leave, report }) {
    this.#membership = membership;
    this.#load = load;
    this.#send = send;
    this.#leave = leave;
    this.#report = report;
    this.#emitter = new Emitter(report);
  }

  get name() {
    return this.#membership.name;
  }

  get position() {
    return this.#membership.position;
  }

  /** @returns {readonly Unsent[]} */
  get unsent() {
    return this.#membership.unsent;
  }

  /** @type {PublicRoom['on']} */
  on(type, listener, options) {
    return this.#emitter.on(type, listener, options);
  }

  /** @type {PublicRoom['send']} */
  send(text, options) {
    return this.#send(text, options);
  }

  leave() {
    this.#leave();
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
    if (this.#held) {
      this.#held.push([type, event]);
      if (this.#held.length > HELD) this.#loading?.abort(new Error('too much was said while a gap was loaded'));
    } else if (type === 'reset') {
      if (this.#load) this.#fill(event, this.#load);
      else this.#emitter.emit('reset', { ...event, filled: false });
    } else if (type === 'interrupted') {
      if (this.state.name === 'joined') this.#become({ name: 'joining' });
    } else {
      if (type === 'joined') this.#become({ name: 'joined' });
      this.#emitter.emit(/** @type {'message' | 'joined'} */ (type), event);
    }
  }

  /** As `deliver`, of what is in no order with messages. @type {Emitter<RoomEvents>['emit']} */
  tell(type, event) {
    return this.#emitter.emit(type, event);
  }

  /** The room is over: nothing is delivered any more, and no loop waits. @param {RoomcastError} [error] */
  end(error) {
    if (this.state.name === 'left') return;
    this.#loading?.abort(new RoomcastError('left', 'the room was left'));
    this.#become({ name: 'left', ...(error && { error }) });
    this.#emitter.clear();
  }

  /** @param {RoomState} state */
  #become(state) {
    this.state = state;
    this.#emitter.emit('state', state);
  }

  /** @param {Omit<Gap, 'filled'>} gap @param {NonNullable<JoinOptions['load']>} load */
  async #fill(gap, load) {
    const loading = (this.#loading = new AbortController());
    const { signal } = loading;
    const timer = setTimeout(() => loading.abort(new Error('a gap could not be loaded in time')), LOADING);
    this.#held = [];
    /** @type {Message[]} */
    let messages = [];
    let filled = false;
    try {
      /** @type {Promise<never>} */
      const givenUp = new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      messages = await Promise.race([load(gap, { signal }), givenUp]);
      filled = true;
    } catch (error) {
      if (this.state.name !== 'left') this.#report(error);
    }
    clearTimeout(timer);
    const held = this.#held;
    this.#held = this.#loading = undefined;
    if (this.state.name === 'left') return;
    for (const message of messages) this.#emitter.emit('message', message);
    this.#emitter.emit('reset', { ...gap, filled });
    for (const [type, event] of held) this.deliver(type, event);
  }
}
