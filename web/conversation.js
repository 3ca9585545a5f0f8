import { Cable } from './cable.js';
import { element } from './dom.js';
import { address } from './door.js';
import { Log } from './log.js';
import { connect } from './roomcast.js';
import { failedRow, gapRow, messageRow, messages, noteRow, unsentRow } from './rows.js';
import { Status, back, sentence, words } from './status.js';
import { Failed, Kept, Unsent } from './store.js';
import { Tally } from './tally.js';
import { identity } from './token.js';

/** How many of the last messages to show at first. */
const HISTORY = 100;

/** How many earlier messages to load at a time. */
const AT_ONCE = 100;

/** Most rows for what is not kept yet. */
const MOST_UNSENT = 50;

/** How many of its own messages' ids a tab remembers. */
const MOST_IDS = 500;

/** The page's own server. */
const SERVER = new URL('ws', location.href.split(/[?#]/)[0]);

/** One person in one room, from joining to leaving. */
export class Conversation {
  #room;
  #name;
  #leaving = new AbortController();
  #status = new Status();
  #tally = new Tally();
  #log = new Log(() => this.#show());
  #failed;
  #draft;
  #keptIds;
  /** The ids of this tab's own messages. */
  #ids;
  #unsentRows = new Map();
  #chat;
  #joined;
  /** Whether one may read here what was said before. */
  #readsBack = true;
  #cable = new Cable();
  #server;
  #connections = 0;
  #unqueued = 0;
  #wasOpen = false;
  /** While the connection is lost: since when, and what had come until then. */
  #away;
  /** No message is before the one with this number. */
  #oldest = 1;
  #unseen = 0;

  /**
   * @param {string} room @param {string} name
   * @param {{ refused: (error: Error) => void, leave: () => void, again: () => void }} on
   */
  constructor(room, name, on) {
    [this.#room, this.#name] = [room, name];
    this.#failed = new Failed(room, name);
    this.#draft = new Kept('draft', room, name);
    this.#keptIds = new Kept('ids', room, name);
    this.#ids = new Set(this.#keptIds.get() ?? []);
    element('room').hidden = false;
    element('room-name').textContent = room;
    element('own-name').textContent = name;
    this.#connect(on);
    this.#listen(on);
    this.#changed();
    this.#log.flush();
  }

  end() {
    this.#leaving.abort();
    this.#cable.end();
    this.#chat.close();
    this.#status.end();
    this.#log.clear();
    element('unsent').replaceChildren();
    element('room').hidden = true;
  }

  #connect({ refused }) {
    const { WebSocket } = this.#cable;
    // A stream would go on while the cable is cut.
    const options = { WebSocket, transports: ['websocket'], store: new Unsent(this.#room, this.#name) };
    this.#chat = connect(SERVER, { ...identity(this.#name), ...options });
    this.#chat.on('state', state => {
      // The token has ended, and the page has no other one.
      if (state.name === 'waiting' && state.error) refused(state.error);
      else this.#changed();
    });
    this.#chat.on('broadcast', message => this.#log.add(messageRow(message, { own: false, toAll: true })));
    this.#join({ last: HISTORY }, refused);
  }

  #join(options, refused) {
    const room = (this.#joined = this.#chat.join(this.#room, options));
    room.on('state', state => {
      const { name, error } = state;
      if (name === 'left' && error?.right === 'history' && options.last) {
        this.#readsBack = false;
        this.#join({}, refused);
      } else if (name === 'left' && error && (this.#chat.state.name !== 'closed' || error.code === 'unauthorized')) {
        refused(error);
      } else {
        // If the client is closed for good, that is what there is to say.
        this.#changed();
      }
    });
    room.on('joined', ({ originServer, position }) => this.#arrived(originServer, position));
    room.on('message', message => this.#heard(message));
    room.on('reset', gap => {
      this.#tally.gap(gap);
      if (!gap.filled) this.#log.add(gapRow(gap));
    });
    room.on('unsent', unsent => {
      this.#remember(unsent);
      this.#log.touch();
    });
    room.on('failed', ({ unsent, error }) => this.#fail(unsent, error));
  }

  #heard(message) {
    this.#tally.message(message);
    const row = messageRow(message, { own: this.#ids.has(message.id), missed: this.#away !== undefined });
    row.message = message;
    if (document.hidden) this.#unseen += 1;
    this.#log.add(row);
  }

  /** The connection or the membership has changed. */
  #changed() {
    const [state, room] = [this.#chat.state, this.#joined.state];
    const isThere = state.name === 'open' && room.name === 'joined';
    this.#wasOpen ||= state.name === 'open';
    if (!isThere && this.#server !== undefined && !this.#away) {
      const { received, lost, unsized } = this.#tally;
      this.#away = { since: Date.now(), received, lost, unsized };
      this.#log.add(noteRow(this.#cable.isCut ? 'You cut your connection.' : 'The connection was lost.'));
    }
    const say = () => words(state, room, this.#room, this.#server, this.#wasOpen, Date.now());
    this.#status.set(isThere ? 'open' : state.name === 'open' ? 'connecting' : state.name, say);
    const cut = element('cut');
    // Not disabled, as it would lose the focus.
    cut.ariaDisabled = String(!isThere || this.#cable.isCut);
    cut.hidden = state.name === 'closed';
    element('again').hidden = state.name !== 'closed';
    this.#log.touch();
  }

  /** It is in the room, and everything missed has come. */
  #arrived(server, position) {
    this.#tally.joined(position);
    this.#server = server ?? 'the server';
    this.#connections += 1;
    const away = this.#away;
    this.#away = undefined;
    this.#changed();
    if (!away) return;
    const text = back(away, this.#tally, this.#server, Date.now());
    this.#log.add(noteRow(text, 'back'));
    this.#status.say(text);
  }

  #fail(unsent, error) {
    const why = sentence(error);
    this.#failed.add({ id: unsent.id, text: unsent.text, why, maybeKept: error.maybeKept });
    this.#status.say(`A message could not be sent. ${why}`);
    this.#log.touch();
  }

  #remember(unsent) {
    const isNew = unsent.filter(({ id }) => !this.#ids.has(id));
    if (isNew.length === 0) return;
    for (const { id } of isNew) this.#ids.add(id);
    for (const id of this.#ids) {
      if (this.#ids.size <= MOST_IDS) break;
      this.#ids.delete(id);
    }
    this.#keptIds.set([...this.#ids]);
  }

  #listen({ leave, again }) {
    const { signal } = this.#leaving;
    const on = (id, type, listener) => element(id).addEventListener(type, listener, { signal });
    const [draft, composer] = [element('draft'), element('composer')];
    draft.value = this.#draft.get() ?? '';
    on('draft', 'input', () => this.#draft.set(draft.value));
    on('draft', 'keydown', event => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      composer.requestSubmit();
    });
    on('composer', 'submit', event => {
      event.preventDefault();
      if (draft.value.trim() === '') return;
      this.#send(draft.value);
      draft.value = '';
      this.#draft.set('');
      draft.focus();
    });
    on('cut', 'click', ({ currentTarget }) => {
      if (currentTarget.ariaDisabled !== 'true') this.#cable.cut(() => this.#changed());
    });
    on('again', 'click', again);
    on('leave', 'click', leave);
    on('details', 'click', () => {
      const isOn = element('room').classList.toggle('details');
      element('details').ariaPressed = String(isOn);
      this.#show();
    });
    on('share', 'click', () => this.#share());
    on('earlier', 'click', () => this.#loadEarlier());
    document.addEventListener('visibilitychange', () => this.#show(), { signal });
    // With fingers, that would bring up the keyboard.
    if (matchMedia('(pointer: fine)').matches) draft.focus({ preventScroll: true });
  }

  #send(text) {
    // `unsent` and `failed` say what becomes of it.
    this.#joined.send(text).catch(error => {
      if (error.code === 'queue_full') this.#fail({ id: `not queued ${Date.now()} ${++this.#unqueued}`, text }, error);
    });
    this.#log.showNewest();
  }

  async #share() {
    const link = address(this.#room).href;
    try {
      await navigator.clipboard.writeText(link);
      this.#status.say('The link to this room is copied.');
      element('share').textContent = 'Copied';
      setTimeout(() => (element('share').textContent = 'Copy link'), 2000);
    } catch {
      // Only pages from https and from this machine may copy.
      prompt('The link to this room, without your name:', link);
    }
  }

  async #loadEarlier() {
    const [load, first, { signal }] = [element('earlier'), this.#log.first, this.#leaving];
    if (load.ariaDisabled === 'true') return;
    load.ariaDisabled = 'true';
    load.textContent = 'Loading …';
    let text = 'Load earlier messages';
    try {
      const { messages: all, hasMore } = await this.#joined.history({ before: first, limit: AT_ONCE });
      if (signal.aborted) return;
      // Rows may have gone at the top meanwhile; then these would leave a hole.
      if (this.#log.first?.seq !== first.seq) return;
      // The log may have begun anew, and has nothing that stands before these.
      const found = all.filter(({ epoch }) => epoch === first.epoch);
      if (!hasMore || found.length < all.length) this.#oldest = found[0]?.seq ?? first.seq;
      this.#log.prepend(found.map(message => Object.assign(messageRow(message, { own: this.#ids.has(message.id) }), { message })));
      this.#status.say(`${messages(found.length)} loaded`);
    } catch {
      text = 'That did not work. Try again';
    } finally {
      load.ariaDisabled = 'false';
      load.textContent = text;
      this.#show();
    }
  }

  /** Updates everything that depends on the rest. */
  #show() {
    if (!this.#joined) return;
    this.#showUnsent();
    const first = this.#log.first;
    const isAll = first !== undefined && first.seq <= this.#oldest;
    const earlier = element('earlier');
    const hadFocus = document.activeElement === earlier;
    earlier.hidden = first === undefined || isAll || !this.#readsBack;
    if (hadFocus && earlier.hidden) element('scroll').focus({ preventScroll: true });
    const beginning = element('beginning');
    beginning.hidden = !isAll;
    beginning.textContent = first?.seq === 1
      ? 'This is where the conversation begins.'
      : 'This is all there is: what was said before is no longer kept.';
    element('empty').hidden = !this.#log.isEmpty || this.#joined.state.name !== 'joined' || element('unsent').childElementCount > 0;
    if (!document.hidden) this.#unseen = 0;
    document.title = `${this.#unseen > 0 ? `(${this.#unseen}) ` : ''}${this.#room} · roomcast`;
    this.#showFacts();
  }

  #showUnsent() {
    const [list, unsent] = [element('unsent'), this.#joined.unsent];
    const isThere = this.#chat.state.name === 'open' && this.#joined.state.name === 'joined';
    const rows = new Map();
    for (const failure of this.#failed.list) {
      const key = `failed ${failure.id}`;
      const take = () => {
        this.#failed.take(failure.id);
        element('draft').focus();
        this.#log.touch();
      };
      rows.set(key, this.#unsentRows.get(key) ?? failedRow(failure, () => (take(), this.#send(failure.text)), take));
    }
    for (const message of unsent.slice(0, MOST_UNSENT)) {
      const row = this.#unsentRows.get(message.id) ?? unsentRow(message);
      row.tell(isThere ? 'Sending …' : 'Waits for the connection');
      rows.set(message.id, row);
    }
    if (unsent.length > MOST_UNSENT) {
      rows.set('more', noteRow(`${messages(unsent.length - MOST_UNSENT)} more`));
    }
    for (const [key, row] of this.#unsentRows) {
      if (rows.get(key) !== row) row.remove();
    }
    [...rows.values()].forEach((row, index) => {
      if (list.children[index] !== row) list.insertBefore(row, list.children[index] ?? null);
    });
    this.#unsentRows = rows;
  }

  #showFacts() {
    const bar = element('facts');
    bar.hidden = !element('room').classList.contains('details');
    if (bar.hidden) return;
    const { received, loss, doubled, misordered, isBlind } = this.#tally;
    const position = this.#joined.position;
    const facts = [
      `server ${this.#server ?? '–'}`,
      `epoch ${position?.epoch ?? '–'}`,
      `seq ${position?.seq ?? '–'}`,
      `connections ${this.#connections}`,
      `received ${received}`,
      `lost ${loss}`,
      `doubled ${isBlind ? 'unknown' : doubled}`,
      `out of order ${isBlind ? 'unknown' : misordered}`,
    ];
    const text = facts.join(' · ');
    if (bar.textContent !== text) bar.textContent = text;
  }
}
