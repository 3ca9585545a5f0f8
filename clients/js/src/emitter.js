/**
 * Listeners by type. One that throws, or whose promise is rejected, disturbs neither the others nor whoever emits: what it
 * threw is reported.
 *
 * @template {Record<string, any>} Events
 */
export class Emitter {
  /** @type {Set<{ type: keyof Events, listener: (event: any) => any, off: () => void }>} */
  #entries = new Set();
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
    const off = () => {
      this.#entries.delete(entry);
      signal?.removeEventListener('abort', off);
    };
    const entry = { type, listener, off };
    this.#entries.add(entry);
    signal?.addEventListener('abort', off);
    if (signal?.aborted) off();
    return off;
  }

  /**
   * @template {keyof Events} Type
   * @param {Type} type
   * @param {Events[Type]} event
   * @returns {boolean} Whether anybody listens.
   */
  emit(type, event) {
    const entries = [...this.#entries].filter((entry) => entry.type === type);
    for (const entry of entries) {
      try {
        // An earlier listener may have removed it.
        if (this.#entries.has(entry)) entry.listener(event)?.catch?.(this.#report);
      } catch (error) {
        this.#report(error);
      }
    }
    return entries.length > 0;
  }

  /** Removes all listeners. */
  clear() {
    for (const { off } of this.#entries) off();
  }
}
