/** @import { Chat, Room } from '../roomcast.d.ts' */
/** @import { UsedRoom, UseRoomOptions } from '../react.d.ts' */
import { useCallback, useMemo, useSyncExternalStore } from 'react';

/** What components in the same room share. @type {WeakMap<Chat, Map<string, Shared>>} */
const all = new WeakMap();

/** The view before a component is mounted. @type {Omit<UsedRoom, 'send' | 'signal' | 'history' | 'onSignal'>} */
const NOTHING = { messages: [], gaps: [], unsent: [], state: { name: 'joining' } };

/** A room as React reads it: what a component sees is replaced, never changed. */
class Shared {
  seen = NOTHING;
  #listeners = new Set();
  /** Missing if the client is closed. @type {Room | undefined} */
  room;

  /** @param {string} name @param {UseRoomOptions} options */
  constructor(name, { chat, keep = 500, ...options }) {
    try {
      const room = (this.room = chat.join(name, options));
      this.seen = { ...NOTHING, unsent: room.unsent, state: room.state };
      room.on('message', (message) => this.#see({ messages: [...this.seen.messages, message].slice(-keep) }));
      room.on('reset', (gap) => gap.filled || this.#see({ gaps: [...this.seen.gaps, gap].slice(-keep) }));
      room.on('unsent', (unsent) => this.#see({ unsent }));
      room.on('state', (state) => this.#see({ state }));
    } catch (/** @type {any} */ error) {
      this.seen = { ...NOTHING, state: { name: 'left', error } };
    }
  }

  /** @param {() => void} listener @param {() => void} onLast Called when nobody has listened for a moment. */
  listen(listener, onLast) {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
      // StrictMode unmounts and mounts again at once, and so may a change of page: that must not leave the room.
      setTimeout(() => {
        if (this.#listeners.size) return;
        onLast();
        this.room?.leave();
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
  const shared = () => all.get(chat)?.get(name);
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
  const seen = useSyncExternalStore(subscribe, () => shared()?.seen ?? NOTHING, () => NOTHING);
  const acts = useMemo(() => {
    const within = (/** @type {(room: Room) => any} */ act) => {
      const room = shared()?.room;
      if (!room) throw new Error('a component sends while it is mounted, and its client is open');
      return act(room);
    };
    /** @type {Pick<UsedRoom, 'send' | 'signal' | 'history' | 'onSignal'>} */
    return {
      send: async (...message) => within((room) => room.send(...message)),
      signal: (...signal) => shared()?.room?.signal(...signal),
      history: async (options) => within((room) => room.history(options)),
      onSignal: (listener) => shared()?.room?.on('signal', listener) ?? (() => {}),
    };
  }, [chat, name]);
  return { ...seen, ...acts };
}
