import { element } from './dom.js';
import { follow } from './rows.js';

/** Most rows in the page; each has about ten nodes. */
const MOST = 400;

/** How soon to show new rows, in milliseconds, and how soon while more keep coming. */
const SOON = 16;
const SOON_IN_A_FLOOD = 100;

/** How far from the end, in pixels, the reader still counts as being there. */
const NEAR = 48;

/**
 * The list of what was said. It stays where its reader is: at the end, or at what is being read. Rows are bounded: at the end
 * the oldest go; while somebody reads further up, new ones beyond the bound wait outside the page, and of them the oldest go.
 */
export class Log {
  #scroll = element('scroll');
  #column = this.#scroll.firstElementChild;
  #rows = element('rows');
  #newest = element('newest');
  #isAtEnd = true;
  /** What was added and is not shown yet; it follows what was added before, unless some of it has gone. */
  #added = [];
  #addedIsWhole = true;
  #flushing;
  #flushedAt = -Infinity;
  /** What waits while somebody reads further up; it follows the last row, unless some of it has gone. */
  #held = [];
  #heldIsWhole = true;
  #unread = 0;
  #listening = new AbortController();
  #sizes = new ResizeObserver(() => {
    this.#keepEnd();
    this.#tellUnread();
  });

  /** @param {() => void} changed Called after rows have come or gone. */
  constructor(changed) {
    this.changed = changed;
    const { signal } = this.#listening;
    this.#scroll.addEventListener('scroll', () => this.#scrolled(), { signal, passive: true });
    this.#newest.addEventListener('click', () => this.showNewest(), { signal });
    // A reader who unfolds a row at the end wants to read it from its beginning.
    this.#rows.addEventListener('click', event => (this.#isAtEnd &&= !event.target.closest('button')), { signal });
    // A phone's keyboard, a draft that grows and a row that is unfolded change what is the end.
    this.#sizes.observe(this.#scroll);
    this.#sizes.observe(this.#column);
    this.#tellUnread();
  }

  /** The first message that is shown. */
  get first() {
    return [...this.#rows.children].find(row => row.message?.seq !== undefined)?.message;
  }

  get isEmpty() {
    return this.#rows.childElementCount === 0 && this.#added.length === 0;
  }

  get unread() {
    return this.#unread;
  }

  /** Adds a row at the end, soon and together with others. @param {HTMLElement} row */
  add(row) {
    this.#added.push(row);
    if (this.#added.length > MOST) {
      this.#added.shift();
      this.#addedIsWhole = false;
    }
    if (!this.#isAtEnd && row.message && !row.classList.contains('own')) this.#unread += 1;
    this.touch();
  }

  /** Has `changed` called soon, together with the next rows. */
  touch() {
    const isFlood = performance.now() - this.#flushedAt < SOON_IN_A_FLOOD;
    // Not an animation frame: those stop in a tab that is not seen.
    this.#flushing ??= setTimeout(() => this.flush(), isFlood ? SOON_IN_A_FLOOD : SOON);
  }

  flush() {
    clearTimeout(this.#flushing);
    this.#flushing = undefined;
    this.#flushedAt = performance.now();
    const [rows, isWhole] = [this.#added, this.#addedIsWhole];
    [this.#added, this.#addedIsWhole] = [[], true];
    if (this.#isAtEnd) {
      // Once some have gone, these are enough for all before them to go too.
      this.#append(rows);
      this.#trim();
    } else {
      const isFull = !isWhole || this.#held.length > 0;
      const room = isFull ? 0 : Math.max(0, MOST - this.#rows.childElementCount);
      this.#append(rows.slice(0, room));
      this.#heldIsWhole &&= isWhole;
      this.#hold(rows.slice(room));
    }
    this.changed();
    this.#keepEnd();
    this.#tellUnread();
  }

  /** Adds older rows before the first. */
  prepend(rows) {
    // They are no news.
    this.#rows.parentElement.ariaBusy = 'true';
    this.#keepingPlace(() => {
      const next = this.#rows.firstElementChild;
      this.#rows.prepend(...rows);
      rows.forEach((row, index) => follow(row, rows[index - 1]));
      if (next) follow(next, rows.at(-1));
    });
    // The reader is up here, so it is the newest that make room.
    this.#isAtEnd = false;
    const excess = [...this.#rows.children].slice(MOST);
    for (const row of excess) row.remove();
    this.#held.unshift(...excess);
    this.#boundHeld();
    this.#rows.parentElement.ariaBusy = 'false';
    this.changed();
    this.#tellUnread();
  }

  /** Goes to the end, where new rows then keep coming. */
  showNewest() {
    const hadFocus = document.activeElement === this.#newest;
    this.#isAtEnd = true;
    const held = this.#held;
    [this.#held, this.#heldIsWhole] = [[], true];
    this.#append(held);
    this.#trim();
    this.#unread = 0;
    this.changed();
    this.#keepEnd();
    this.#tellUnread();
    // The button is about to go, and the focus would be nowhere.
    if (hadFocus) this.#scroll.focus({ preventScroll: true });
  }

  clear() {
    clearTimeout(this.#flushing);
    this.#listening.abort();
    this.#sizes.disconnect();
    this.#rows.replaceChildren();
    this.#newest.hidden = true;
  }

  #append(rows) {
    for (const row of rows) {
      follow(row, this.#rows.lastElementChild);
      this.#rows.append(row);
    }
  }

  #trim() {
    while (this.#rows.childElementCount > MOST) this.#rows.firstElementChild.remove();
    if (this.#rows.firstElementChild) follow(this.#rows.firstElementChild);
  }

  #hold(rows) {
    this.#held.push(...rows);
    this.#boundHeld();
  }

  #boundHeld() {
    if (this.#held.length <= MOST) return;
    this.#held.splice(0, this.#held.length - MOST);
    this.#heldIsWhole = false;
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroll;
    this.#isAtEnd = scrollHeight - scrollTop - clientHeight < NEAR;
    if (!this.#isAtEnd) return;
    if (this.#held.length > 0 && this.#heldIsWhole) {
      // What comes next, and not the end, or the reader would miss what is in between.
      this.#keepingPlace(() => {
        this.#append(this.#held.splice(0, MOST / 4));
        this.#trim();
      });
      this.#isAtEnd = false;
      this.changed();
    } else if (this.#held.length > 0) {
      this.showNewest();
    } else if (this.#unread > 0) {
      this.#unread = 0;
    }
    this.#tellUnread();
  }

  /** Changes the rows without moving what is being read. */
  #keepingPlace(change) {
    const top = this.#scroll.getBoundingClientRect().top;
    const anchor = [...this.#rows.children].find(row => row.getBoundingClientRect().bottom > top);
    const before = anchor?.getBoundingClientRect().top;
    change();
    if (anchor?.isConnected) this.#scroll.scrollTop += anchor.getBoundingClientRect().top - before;
  }

  #keepEnd() {
    if (this.#isAtEnd) this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }

  #tellUnread() {
    this.#newest.hidden = this.#isAtEnd;
    const count = this.#unread;
    const text = count === 0 ? 'To the newest' : count === 1 ? '1 new message' : `${count.toLocaleString()} new messages`;
    if (this.#newest.textContent !== text) this.#newest.textContent = text;
  }
}
