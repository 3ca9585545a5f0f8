/** @import { Chat } from '../roomcast.d.ts' */
/** @import { UsedRoom, UseRoomOptions } from '../react.d.ts' */
import { useCallback, useSyncExternalStore } from 'react';

/** What components that are in the same room share. @type {WeakMap<Chat, Map<string, Shared>>} */
const all = new WeakMap();

/** What there is to see before a component is mounted. @type {UsedRoom} */
const NOTHING = {
  messages: [],
  gaps: [],
  unsent: [],
  state: { name: 'joining' },
  send: () => Promise.reject(new Error('the component is not mounted')),
};

/** A room as React reads it: what a component sees is never changed, but replaced. */
class Shared {
  #listeners = new Set();
  #room;

  /** @param {string} name @param {UseRoomOptions} options */
  constructor(name, { chat, keep = 500, ...options }) {
    const room = (this.#room = chat.join(name, options));
    /** @type {UsedRoom} */
    this.seen = { ...NOTHING, unsent: room.unsent, state: room.state, send: (...args) => room.send(...args) };
    room.on('message', (message) => this.#see({ messages: [...this.seen.messages, message].slice(-keep) }));
    room.on('reset', (gap) => this.#see({ gaps: [...this.seen.gaps, gap].slice(-keep) }));
    room.on('unsent', (unsent) => this.#see({ unsent }));
    room.on('state', (state) => this.#see({ state }));
  }

  /** @param {() => void} listener @param {() => void} onLast Called when nobody has listened for a moment. */
  listen(listener, onLast) {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
      // StrictMode unmounts and mounts again in one breath, and so may a change of page: nobody is to leave for that.
      setTimeout(() => {
        if (this.#listeners.size) return;
        onLast();
        this.#room.leave();
      });
    };
  }

  /** @param {Partial<UsedRoom>} change */
  #see(change) {
    this.seen = { ...this.seen, ...change };
    for (const listener of this.#listeners) listener();
  }
}

/** @type {typeof import('../react.d.ts').useRoom} */
export function useRoom(name, options) {
  const { chat } = options;
  const subscribe = useCallback(
    (/** @type {() => void} */ listener) => {
      const rooms = all.get(chat) ?? new Map();
      all.set(chat, rooms);
      const shared = rooms.get(name) ?? new Shared(name, options);
      rooms.set(name, shared);
      return shared.listen(listener, () => rooms.get(name) === shared && rooms.delete(name));
    },
    [chat, name],
  );
  return useSyncExternalStore(subscribe, () => all.get(chat)?.get(name)?.seen ?? NOTHING, () => NOTHING);
}
