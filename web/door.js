import { element } from './dom.js';
import { holder } from './token.js';

const FIRST = ['Amber', 'Brisk', 'Calm', 'Clever', 'Gentle', 'Jolly', 'Keen', 'Merry', 'Noble', 'Quick', 'Quiet', 'Sunny'];
const LAST = ['Badger', 'Crane', 'Dolphin', 'Falcon', 'Finch', 'Hare', 'Heron', 'Lynx', 'Otter', 'Raven', 'Robin', 'Wren'];

/** Where the name of the last visit is stored. */
const NAME = 'roomcast.name';

/** The room and the name in the page's address; a missing one is empty. */
export function fromAddress() {
  const query = new URLSearchParams(location.search);
  return { room: (query.get('room') ?? '').trim(), name: (query.get('name') ?? '').trim() };
}

/** The address of a room; without a name, it is fit to be shared. */
export function address(room, name) {
  const url = new URL(location.pathname, location.href);
  url.searchParams.set('room', room);
  if (name) url.searchParams.set('name', name);
  return url;
}

/**
 * What is wrong with a room, a name or a token, as far as the page can know; the server decides.
 *
 * @returns {{ field: 'room' | 'name' | 'token', text: string } | undefined}
 */
export function fault({ room, name, token }) {
  const stranger = room.match(/[^A-Za-z0-9\-_.:~@]/u)?.[0];
  if (!room) return { field: 'room', text: 'Which room? A new one is there when somebody joins it.' };
  if (stranger !== undefined) {
    const it = stranger.trim() ? `“${stranger}”` : 'a blank';
    return { field: 'room', text: `A room’s name cannot have ${it} in it, only plain letters, digits and - _ . : ~ @` };
  }
  if (room.length > 128) return { field: 'room', text: `A room’s name has at most 128 characters; this one has ${room.length}.` };
  if (/[^\w.-]/.test(token)) return { field: 'token', text: 'A token has only letters, digits and - _ . in it.' };
  // What is wrong with the name in it, the server says.
  if (holder(token)) return undefined;
  if (!name) return { field: 'name', text: 'By which name shall the others know you?' };
  const length = [...name].length;
  if (length > 64) return { field: 'name', text: `A name has at most 64 characters; this one has ${length}.` };
  return undefined;
}

/** The form in front of a room. */
export class Door {
  #view = element('door');
  #form = element('join');

  /** @param {(room: string, name: string, token: string) => void} enter */
  constructor(enter) {
    this.#field('token').addEventListener('input', () => this.#showHolder());
    this.#form.addEventListener('submit', event => {
      event.preventDefault();
      const [room, name, token] = ['room', 'name', 'token'].map(field => this.#field(field).value.trim());
      const wrong = fault({ room, name, token });
      this.#complain(wrong);
      if (wrong) return;
      if (!holder(token)) remember(name);
      enter(room, name, token);
    });
  }

  /** @param {{ room: string, name: string, token: string, problem?: { field?: 'room' | 'name' | 'token', text: string } }} visit */
  show({ room, name, token, problem }) {
    document.title = 'roomcast';
    this.#field('room').value = room || 'lobby';
    this.#field('name').value = name || remembered() || someName();
    this.#field('token').value = token;
    this.#showHolder();
    const isAsked = token !== '' || problem?.field === 'token';
    element('token-row').hidden = !isAsked;
    element('unchecked').hidden = isAsked;
    this.#view.hidden = false;
    this.#complain(problem);
    if (!problem?.field) this.#field(room && !name ? 'name' : 'room').select();
  }

  hide() {
    this.#view.hidden = true;
  }

  /** With a token, the name is what the token says. */
  #showHolder() {
    const [name, said] = [this.#field('name'), holder(this.#field('token').value.trim())];
    if (said) name.value = said;
    else if (name.readOnly) name.value = remembered() || someName();
    name.readOnly = said !== '';
  }

  #field(name) {
    return this.#form.elements.namedItem(name);
  }

  #complain(problem) {
    const places = { room: element('room-problem'), name: element('name-problem'), token: element('token-problem'), '': element('problem') };
    for (const [field, place] of Object.entries(places)) {
      const isHere = problem !== undefined && (problem.field ?? '') === field;
      place.hidden = !isHere;
      place.textContent = isHere ? problem.text : '';
      if (field) this.#field(field).setAttribute('aria-invalid', String(isHere));
    }
    if (problem?.field) this.#field(problem.field).focus();
  }
}

function someName() {
  const any = list => list[Math.floor(Math.random() * list.length)];
  return `${any(FIRST)} ${any(LAST)}`;
}

function remembered() {
  try {
    return localStorage.getItem(NAME);
  } catch {
    return null;
  }
}

function remember(name) {
  try {
    localStorage.setItem(NAME, name);
  } catch {
    // A browser that keeps nothing asks again the next time.
  }
}
