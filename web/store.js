/**
 * What survives a reload. `sessionStorage` belongs to one tab, so two tabs never send each other's messages; a tab that was
 * duplicated has copies under the same ids, which make no second message.
 */

/** The storage; none, if the browser is told to keep nothing. */
const storage = (() => {
  try {
    return sessionStorage;
  } catch {
    return undefined;
  }
})();

/** Most failed messages that are kept. */
const MOST_FAILED = 50;

/** The messages of one name in one room that are not known to be kept: a `Store` of roomcast-client. */
export class Unsent {
  #prefix;
  #next = 0;

  constructor(room, name) {
    this.#prefix = `roomcast.unsent ${JSON.stringify([room, name])} `;
    for (const [place] of this.#entries()) this.#next = Math.max(this.#next, place + 1);
  }

  all() {
    return this.#entries().map(([, unsent]) => unsent);
  }

  put(unsent) {
    const key = this.#prefix + unsent.id;
    const before = storage?.getItem(key);
    const place = before ? JSON.parse(before)[0] : this.#next++;
    storage?.setItem(key, JSON.stringify([place, unsent]));
  }

  delete(id) {
    storage?.removeItem(this.#prefix + id);
  }

  #entries() {
    const keys = Object.keys(storage ?? {}).filter(key => key.startsWith(this.#prefix));
    return keys.map(key => JSON.parse(storage.getItem(key))).sort(([a], [b]) => a - b);
  }
}

/** A value that a tab keeps for one name in one room, such as what is being written. */
export class Kept {
  #key;

  constructor(what, room, name) {
    this.#key = `roomcast.${what} ${JSON.stringify([room, name])}`;
  }

  get() {
    return JSON.parse(storage?.getItem(this.#key) ?? 'null');
  }

  set(value) {
    try {
      storage?.setItem(this.#key, JSON.stringify(value));
    } catch {
      // It is full. The page has the value all the same, until it is reloaded.
    }
  }
}

/** What could not be sent, and why, oldest first. */
export class Failed {
  #kept;
  #list;

  constructor(room, name) {
    this.#kept = new Kept('failed', room, name);
    this.#list = this.#kept.get() ?? [];
  }

  get list() {
    return this.#list;
  }

  /** @param {{ id: string, text: string, why: string, maybeKept: boolean }} failure */
  add(failure) {
    this.#set([...this.#list, failure].slice(-MOST_FAILED));
  }

  take(id) {
    this.#set(this.#list.filter(failure => failure.id !== id));
  }

  #set(list) {
    this.#list = list;
    this.#kept.set(list);
  }
}
