/**
 * Listeners by type. One that throws disturbs neither the others nor whoever emits: what it threw is reported.
 *
 * @template {Record<string, any>} Events
 */
export class Emitter {
  /** @type {Map<keyof Events, Set<(event: any) => void>>} */
  #listeners = new Map();
  #report;

  /** @param {(error: unknown) => void} report */
  constructor(report) {
    this.#report = report;
  }

  /**
   * @template {keyof Events} Type
   * @param {Type} type
   * @param {(event: Events[Type]) => void} listener
   * @param {{ signal?: AbortSignal }} [options]
   */
  on(type, listener, { signal } = {}) {
    const listeners = this.#listeners.get(type) ?? new Set();
    const off = () => void listeners.delete(listener);
    if (!signal?.aborted) this.#listeners.set(type, listeners.add(listener));
    signal?.addEventListener('abort', off);
    return off;
  }

  /**
   * @template {keyof Events} Type
   * @param {Type} type
   * @param {Events[Type]} event
   * @returns {boolean} Whether there is anybody to hear it.
   */
  emit(type, event) {
    const listeners = [...(this.#listeners.get(type) ?? [])];
    for (const listener of listeners) {
      try {
        listener(event);
      } catch (error) {
        this.#report(error);
      }
    }
    return listeners.length > 0;
  }

  /** Lets all of them go. */
  clear() {
    this.#listeners.clear();
  }
}
