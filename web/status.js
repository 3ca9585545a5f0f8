import { element } from './dom.js';
import { messages } from './rows.js';

/** A state that lasts less than this is not read out. */
const SETTLED = 700;

/**
 * The state of the connection in words.
 *
 * @param {import('../clients/js/roomcast.d.ts').State} state
 * @param {import('../clients/js/roomcast.d.ts').RoomState} room
 * @param {string | undefined} server The one of the last membership. @param {boolean} wasOpen Whether there ever was a connection.
 * @returns {{ text: string, rest?: string }} `rest` changes by the second: it is shown and not read out.
 */
export function words(state, room, roomName, server, wasOpen, now) {
  switch (state.name) {
    case 'connecting':
      return { text: 'Connecting …' };
    case 'open':
      if (room.name === 'joining') return { text: `Joining ${roomName} …` };
      return { text: server ? `Connected to ${server}` : 'Connected' };
    case 'waiting': {
      if (state.until === undefined) return { text: 'You are offline; this goes on by itself when the network is back' };
      const seconds = Math.max(0, Math.ceil((state.until - now) / 1000));
      const again = seconds > 0 ? `trying again in ${seconds} s` : 'trying again';
      if (!wasOpen) return { text: 'Cannot connect: the server is away or full', rest: `; ${again}` };
      return { text: 'Connection lost', rest: `, ${again}` };
    }
    default:
      return { text: `Closed: ${state.why}; ${state.remedy}` };
  }
}

/**
 * What to say to somebody who was away, since `away.since`, when the tally stood at what else is in there.
 *
 * @param {import('./tally.js').Tally} tally
 */
export function back(away, tally, server, now) {
  const time = (now - away.since) / 1000;
  const shown = time < 0.1 ? 'at once' : `after ${time < 10 ? time.toFixed(1) : Math.round(time).toLocaleString()} s`;
  const [missed, lost] = [tally.received - away.received, tally.lost - away.lost];
  return `Back ${shown}, on ${server}: ${meanwhile(missed, lost, tally.unsized > away.unsized, tally.isBlind)}.`;
}

/** @param {boolean} hasMore Whether more may be lost than was counted. @param {boolean} isBlind Whether nothing can be counted. */
function meanwhile(missed, lost, hasMore, isBlind) {
  if (isBlind) return 'this server keeps nothing, so what was said meanwhile is lost to you, and nobody can count it';
  const [were, have] = missed === 1 ? ['was', 'has'] : ['were', 'have'];
  const came = missed > 0 ? `${messages(missed)} ${were} missed and ${have} come, ` : '';
  if (hasMore) return lost > 0 ? `${came}${lost} lost, and perhaps more` : `${came}${came ? 'others' : 'what was said meanwhile'} may be lost`;
  if (missed + lost === 0) return 'nothing was said meanwhile, 0 lost';
  return `${came}${lost} lost`;
}

/** The names of the protocol's fields for people. */
const FIELDS = { room: 'A room’s name', username: 'A name' };

/** An error in a sentence for people. @param {{ code?: string, message: string }} error */
export function sentence({ code, message }) {
  const [, field, rest] = /^`(\w+)` (.*)$/s.exec(message) ?? [];
  let text = FIELDS[field] ? `${FIELDS[field]} ${rest}` : message;
  if (code === 'text_too_long') text = `This message is too long${field ? `: it ${rest}` : ' for the server'}`;
  text = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** Tells the state of the connection to those who see the page and to those who hear it. */
export class Status {
  #shown = element('state');
  #said = element('said');
  #words = () => ({ text: '' });
  #ticking;
  #settling;

  /** @param {string} name The state's, for how it looks. @param {() => { text: string, rest?: string }} say */
  set(name, say) {
    this.#words = say;
    this.#shown.dataset.is = name;
    this.#show();
    clearInterval(this.#ticking);
    if (name === 'waiting') this.#ticking = setInterval(() => this.#show(), 250);
    this.say(say().text);
  }

  /** Has something read out, unless something else replaces it within a short time. */
  say(text) {
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => {
      if (this.#said.textContent !== text) this.#said.textContent = text;
    }, SETTLED);
  }

  end() {
    clearInterval(this.#ticking);
    clearTimeout(this.#settling);
    this.#said.textContent = '';
  }

  #show() {
    const { text, rest = '' } = this.#words();
    const whole = text + rest;
    if (this.#shown.textContent !== whole) this.#shown.textContent = whole;
  }
}
