import { button, make } from './dom.js';
import { pieces } from './links.js';

/** A longer text, or one with more lines, is folded. */
const FOLD_AT = 1200;
const FOLD_LINES = 16;

/** What servers of another kind may send in place of a name; ours have at most 64 characters. */
const LONGEST_NAME = 80;

/** Messages of one person within this time stand under one name. */
const TOGETHER = 5 * 60_000;

const time = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const dayAndTime = new Intl.DateTimeFormat(undefined, { weekday: 'short', day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'long' });

/**
 * A message in the list.
 *
 * @param {import('../clients/js/roomcast.d.ts').Message} message
 * @param {{ own: boolean, missed?: boolean, toAll?: boolean }} is
 */
export function messageRow(message, { own, missed = false, toAll = false }) {
  const name = make('bdi', 'name', cut(String(message.username ?? 'somebody'), LONGEST_NAME));
  const head = make('div', 'head', name, when(message.ts), toAll ? make('span', 'to-all', 'to everybody') : undefined);
  const row = make('li', 'message', head, textOf(said(message)), factsOf(message, own));
  row.classList.toggle('own', own);
  row.classList.toggle('missed', missed);
  row.classList.toggle('broadcast', toAll);
  // What decides whether the next row stands under the same name.
  row.speaker = toAll ? undefined : { username: message.username, ts: message.ts, missed };
  return row;
}

/** Puts a row under the name of the row before, if both are by the same person. */
export function follow(row, before) {
  const [a, b] = [before?.speaker, row.speaker];
  const follows = a !== undefined && b !== undefined && a.username === b.username && a.missed === b.missed;
  row.classList.toggle('follows', follows && Math.abs(b.ts - a.ts) < TOGETHER);
}

/** @param {import('../clients/js/roomcast.d.ts').Gap} gap */
export function gapRow({ after, upTo, reason }) {
  const count = after && upTo && after.epoch === upTo.epoch ? upTo.seq - after.seq : undefined;
  const what = count === undefined ? 'Messages may be missing here' : `${messages(count)} ${count === 1 ? 'is' : 'are'} missing here`;
  const why = {
    trimmed: 'the room’s log no longer reaches back so far',
    new_epoch: 'Redis lost the room’s log, and its numbers begin anew',
    unknown_position: 'the room’s log is not the one that it was',
    forbidden: 'you may not read here what was said while you were away',
  }[reason];
  return make('li', 'gap', make('span', '', why ? `${what}: ${why}.` : `${what}.`));
}

export function noteRow(text, classes = '') {
  return make('li', `note ${classes}`.trim(), make('span', '', text));
}

/** A message that is not known to be kept. @param {import('../clients/js/roomcast.d.ts').Unsent} unsent */
export function unsentRow(unsent) {
  const fate = make('p', 'fate', '');
  const row = make('li', 'message own', textOf(unsent.text), fate);
  row.tell = text => {
    if (fate.textContent !== text) fate.textContent = text;
  };
  return row;
}

/** A message that could not be sent. */
export function failedRow(failure, again, drop) {
  const why = `Not sent. ${failure.why}${failure.maybeKept ? ' It may have arrived all the same.' : ''}`;
  const fate = make('p', 'fate', make('span', '', why), button('plain-link', 'Try again', again), button('plain-link', 'Remove', drop));
  return make('li', 'message own failed', textOf(failure.text), fate);
}

export function messages(count) {
  return count === 1 ? '1 message' : `${count.toLocaleString()} messages`;
}

function when(ts) {
  const date = new Date(ts);
  if (Number.isNaN(date.getTime())) return undefined;
  const isToday = date.toDateString() === new Date().toDateString();
  const shown = make('time', '', (isToday ? time : dayAndTime).format(date));
  shown.dateTime = date.toISOString();
  shown.title = exact.format(date);
  return shown;
}

/** What somebody said, or what a program did. */
function said({ text, event, data }) {
  const json = data === undefined ? '' : JSON.stringify(data);
  return text === undefined ? [event, json].filter(Boolean).join(' ') : String(text);
}

function factsOf({ originServer, seq, epoch }, own) {
  const server = make('bdi', 'server', cut(String(originServer), LONGEST_NAME));
  const unseen = text => make('span', 'unseen', text);
  server.title = `${server.textContent} took this message`;
  const facts = make('p', 'facts', unseen(' through '), server);
  if (seq === undefined) {
    facts.prepend(make('span', 'detail', 'no number'));
    return facts;
  }
  const number = own
    ? make('span', 'kept', unseen('kept as '), mark('✓ '), `#${seq}`)
    : make('span', 'detail', `#${seq}`);
  number.title = own ? 'Kept, with this number in the room’s order' : 'Its number in the room’s order';
  const life = make('span', 'detail', `${String(epoch).slice(0, 6)}…`);
  life.title = `The epoch, ${epoch}: one life of the room’s numbering`;
  facts.prepend(life, number);
  return facts;
}

function mark(text) {
  const made = make('span', '', text);
  made.ariaHidden = 'true';
  return made;
}

function textOf(text) {
  const shown = make('div', 'text');
  shown.dir = 'auto';
  const short = folded(text);
  shown.append(...linked(short));
  if (short.length < text.length) {
    const all = button('plain-link', `Show all ${[...text].length.toLocaleString()} characters`, () => {
      shown.replaceChildren(...linked(text));
      shown.tabIndex = -1;
      shown.focus();
    });
    shown.append('… ', all);
  }
  return shown;
}

function folded(text) {
  const lines = text.split('\n', FOLD_LINES + 1);
  const short = lines.length > FOLD_LINES ? lines.slice(0, FOLD_LINES).join('\n') : text;
  return cut(short, FOLD_AT);
}

/** Never within a surrogate pair. */
function cut(text, length) {
  if (text.length <= length) return text;
  const end = /[\uD800-\uDBFF]/.test(text[length - 1]) ? length - 1 : length;
  return text.slice(0, end);
}

function linked(text) {
  return pieces(text).flatMap(({ text, href, host }) => {
    if (href === undefined) return [text];
    const link = make('a', '', text);
    link.href = href;
    link.target = '_blank';
    link.rel = 'noopener noreferrer nofollow';
    link.dir = 'ltr';
    return host === undefined ? [link] : [link, make('span', 'host', ` (leads to ${host})`)];
  });
}
