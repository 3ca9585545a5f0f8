/**
 * Counts what came in a room and judges it by its numbers, independently of the client: what is missing, what came twice, what
 * came in the wrong order.
 */
export class Tally {
  received = 0;
  lost = 0;
  doubled = 0;
  misordered = 0;
  /** How often something may be missing without anybody knowing how much. */
  unsized = 0;
  /** Whether it was in the room without a position: what is missing then leaves no trace. */
  isBlind = false;
  #epoch;
  /** The number of the message before the first that counts, then of the latest. */
  #seq;
  #ids = new Set();

  /** What was lost, in words. */
  get loss() {
    if (this.isBlind || (this.unsized > 0 && this.lost === 0)) return 'unknown';
    return `${this.lost}${this.unsized > 0 ? '+' : ''}`;
  }

  /** It is in the room. @param {object | undefined} position Where; a server that keeps nothing does not say. */
  joined(position) {
    if (!position) this.isBlind = true;
  }

  /** @param {{ epoch?: string, seq?: number }} message A message that came live. */
  message({ epoch, seq }) {
    this.received += 1;
    // What a foreign server said has no place.
    if (seq === undefined) return;
    if (this.#epoch !== epoch) [this.#epoch, this.#seq] = [epoch, seq - 1];
    if (this.#ids.has(seq)) this.doubled += 1;
    else if (seq <= this.#seq) this.misordered += 1;
    else {
      this.lost += seq - this.#seq - 1;
      this.#seq = seq;
      this.#remember(seq);
    }
  }

  /** A gap: it counts as lost, and the room goes on after it. */
  gap({ after, upTo, filled }) {
    const isSized = after !== undefined && after.epoch === upTo?.epoch;
    if (!filled && isSized) this.lost += Math.max(0, upTo.seq - after.seq);
    if (!filled && !isSized) this.unsized += 1;
    if (!upTo) return;
    if (this.#epoch !== upTo.epoch) this.#ids.clear();
    [this.#epoch, this.#seq] = [upTo.epoch, upTo.seq];
  }

  #remember(seq) {
    this.#ids.add(seq);
    if (this.#ids.size > 2000) this.#ids.delete(this.#ids.values().next().value);
  }
}
