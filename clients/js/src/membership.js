/** @import { Content, Gap, Position, Unsent } from '../roomcast.d.ts' */
/** @import { Page } from './pages.js' */
import { backoff } from './backoff.js';
import { RoomcastError } from './error.js';
import { Pages } from './pages.js';

/** Refusals that pass by themselves; `retry_after_ms` says so of any other. */
const PASSING = ['unavailable', 'overloaded', 'rate_limited', 'slow_mode'];

/** Why nobody will hear the answer to a question. */
export const NO_ANSWER = { code: 'no_answer', message: 'the server did not answer' };

/** How long the server may take to join a room by itself, until it is asked to. */
const PATIENCE = 5000;

/** Refusals without an id that are never about a page: those of a signal, or of a `leave` that came too late. */
const NO_PAGE = ['muted', 'rate_limited', 'not_member'];

/** Longest text and data that a server accepts by default, in bytes. */
const LONGEST = 16 << 10;

/**
 * A frame from the server about one room.
 *
 * @typedef {{ type: string, room?: string, id?: string, epoch?: string, seq?: number, until?: number, resumed?: boolean,
 *   originServer?: string, reason?: string, code?: string, message?: string, right?: string, retry_after_ms?: number,
 *   text?: string, data?: unknown, event?: string }} Frame
 *
 * @typedef {{ code?: string, message?: string, right?: string }} Refusal
 *
 * What to do about an input: send a frame, emit an event to the room's user, settle a message, renew its entry in
 * the store, or report a refusal that concerns none.
 *
 * @typedef {['send', object] | ['emit', string, any] | ['refused', RoomcastError] | ['kept', Unsent, Position | undefined]
 *   | ['failed', Unsent, RoomcastError] | ['dropped', Unsent, unknown] | ['put', Unsent] | ['restored'] | ['report', RoomcastError]} Effect
 *
 * @typedef {object} Options
 * @property {string} [username]
 * @property {number} [last]
 * @property {Position} [after]
 * @property {number} dedupWindow
 * @property {number} maxUnsentAge
 * @property {Map<string, Frame | undefined>} given Rooms that the server joins by itself: its `joined`, with the position up to
 *   now, or nothing while that is still to come.
 * @property {() => number} random
 * @property {(effect: Effect) => void} effect
 */

/**
 * One client's membership of one room: its position, and its messages that are not known to be kept. It only decides, without
 * a socket or a clock. One rule carries it: **what was sent and may have been kept lies after
 * the place from which it resumes, or it would have been seen.** So a replay from there that has no gap proves what did not
 * arrive. That place is `position`, or before it if a message since then may be ours and does not say so.
 *
 * One message is under way at a time, so that none overtakes one that fails.
 */
export class Membership {
  /** @type {'out' | 'joining' | 'replaying' | 'live' | 'leaving' | 'ended'} */
  phase = 'out';
  /** @type {Position | undefined} */
  position;
  /** In the order of sending; replaced, never changed. @type {Unsent[]} */
  unsent = [];

  /** Whether the user wants to be in the room. */
  wanted = true;
  /** Why it has ended, if it has. @type {RoomcastError | undefined} */
  error;

  /** @readonly */
  name;
  #options;
  /** Whether there is a connection. */
  #connected = false;
  /** The id of the message under way. @type {string | undefined} */
  #flying;
  /** Whether the message under way was sent before, so that it may be kept whatever the answer now. */
  #again = false;
  /** The earliest time of the next retry or of the first join, and the time when that was decided. */
  #retryAt = 0;
  #refusedAt = 0;
  #attempt = 0;
  /** The last `seq` of the replay, and its epoch as soon as that is known. @type {number | undefined} */
  #until;
  /** @type {string | undefined} */
  #epoch;
  /** Whether this membership began with a replay from our position, so that it has everything except what was in a gap. */
  #replayed = false;
  /** The ids of our messages by `seq`, from acks that came before the messages. @type {Map<number, string>} */
  #acked = new Map();
  /** The position before the first message that may be one of ours without an answer. @type {Position | undefined} */
  #doubt;
  #pages = new Pages();
  /** Messages that a gap may have swallowed. @type {Set<string>} */
  #inGap = new Set();
  /** The server's `joined`. @type {Frame | undefined} */
  #joined;
  /** Whether the server was asked for the room; it may also join it by itself, as the first. */
  #asked = false;
  /** Whether the server has joined the room by itself, and still is asked for what is past. */
  #given = false;
  /** Where it was before a break, if it may not read what came after. @type {Position | undefined} */
  #missed;

  /** @param {string} name @param {Options} options */
  constructor(name, options) {
    this.name = name;
    this.#options = options;
    this.position = options.after;
  }

  /** When `wake` wants to be called. */
  get wakeAt() {
    const [first] = this.unsent;
    const ready = this.phase === 'live' ? first && !this.#flying : this.#isToJoin;
    const expires = first && first.id !== this.#flying ? first.at + this.#options.maxUnsentAge : Infinity;
    return ready ? Math.min(this.#retryAt, expires) : expires;
  }

  /** Replaces a membership whose `leave` the server has not answered: joins once it has. */
  follow() {
    this.phase = 'leaving';
    this.#connected = true;
  }

  /**
   * What an earlier life of this client could not send. The join then reaches back to before the first of them that may
   * have been kept, and as far before that as `last` says, so that the user does not see less history for it.
   *
   * @param {Unsent[]} unsent
   */
  restore(unsent) {
    this.unsent = [...unsent, ...this.unsent];
    const sent = unsent.filter(({ sent }) => sent);
    const first = sent[0]?.after;
    // Nobody knows whether a position from the user lies before them.
    if (this.position) for (const { id } of sent) this.#inGap.add(id);
    else if (first) this.position = { epoch: first.epoch, seq: Math.max(0, first.seq - (this.#options.last ?? 0)) };
    this.#emit('restored');
  }

  /** @param {number} now */
  connected(now) {
    this.#connected = true;
    this.wake(now);
  }

  disconnected() {
    this.#connected = false;
    if (this.#pages.isReading) this.#pages.first()?.reject(errorOf(NO_ANSWER));
    this.#away();
    this.#flying = undefined;
    this.#retryAt = 0;
    if (this.phase !== 'ended') this.phase = this.wanted ? 'out' : 'ended';
  }

  /** @param {Unsent} unsent @param {number} now */
  add(unsent, now) {
    this.unsent = [...this.unsent, unsent];
    this.#emit('put', unsent);
    this.#pump(now);
  }

  /**
   * Takes a message back: it is not sent any more, and its outcome is not reported.
   *
   * @param {string} id @param {number} now @param {unknown} why
   */
  drop(id, now, why) {
    const unsent = this.unsent.find((unsent) => unsent.id === id);
    if (!unsent) return;
    this.unsent = this.unsent.filter((unsent) => unsent.id !== id);
    this.#emit('dropped', unsent, why);
    // If it is under way, the next one goes out after its answer.
    if (this.#flying !== id) this.#pump(now);
  }

  /** The connection was closed for a message that is too long: this one, or one longer than servers accept. @param {string} [id] */
  tooBig(id) {
    const isCulprit = (/** @type {Unsent} */ unsent) => (id ? unsent.id === id : sizeOf(unsent) > LONGEST);
    for (const unsent of this.unsent.filter(isCulprit)) {
      this.#fail(unsent, { code: 'text_too_long', message: 'it is too long for the server' });
    }
  }

  /** Tells the other members something; nobody hears it later. @param {string} event @param {unknown} data */
  signal(event, data) {
    if (this.#isIn) this.#emit('send', { type: 'signal', room: this.name, event, data });
  }

  /** Asks for a part of the history, as soon as we are in. @param {Page} page */
  read(page) {
    this.#pages.queue(page);
    this.#turn();
  }

  get username() {
    return this.#options.username;
  }

  leave() {
    this.#giveUp({ code: 'left', message: 'the room was left' });
    if (this.phase === 'joining' || this.#isIn) this.#sendLeave();
    else if (this.phase === 'out') this.phase = 'ended';
  }

  /** @param {RoomcastError} error */
  end(error) {
    this.wanted = false;
    this.error = error;
    this.#pages.end(error);
  }

  /** The server will never accept us in this room. @param {Refusal} refusal */
  refuse(refusal) {
    this.phase = 'ended';
    this.#giveUp(refusal);
    this.#emit('refused', /** @type {RoomcastError} */ (this.error));
  }

  /** @param {number} now */
  wake(now) {
    for (let first; (first = this.unsent[0]) && now - first.at >= this.#options.maxUnsentAge; ) {
      if (first.id === this.#flying) break;
      const code = first.sent ? 'outcome_unknown' : 'too_old';
      this.#fail(first, { code, message: 'it waited for too long' }, first.sent);
    }
    if (this.#isToJoin && this.#mayTry(now)) this.#join(now);
    this.#pump(now);
  }

  /** @param {Frame} frame @param {number} now */
  receive(frame, now) {
    const isError = frame.type === 'error';
    // The server does not repeat an id that it refuses; it can only be that of the message under way.
    if (frame.type === 'ack' || (isError && (frame.id || frame.code === 'bad_id'))) {
      this.#answered({ ...frame, id: frame.id ?? this.#flying }, now);
    } else if (frame.type === 'history') {
      this.#pages.first()?.resolve(frame);
      this.#turn();
    } else if (isError && this.#pages.isReading && frame.right !== 'signal' && !NO_PAGE.includes(frame.code ?? '')) {
      // Commands are answered in their order, and no `join` was on its way when the page was asked for.
      this.#pages.first()?.reject(errorOf(frame));
      this.#turn();
    } else if (this.phase === 'leaving') {
      // A `left` with a reason is the server's own, which has crossed with our `leave`; `not_member` answers that then.
      if ((frame.type === 'left' && !frame.reason) || frame.code === 'not_member') this.#gone(now);
    } else if (this.phase === 'joining') {
      const isUnsure = this.#options.given.delete(this.name);
      if (frame.type === 'joined') {
        if (!this.#asked) this.#meet(frame, now);
        // With neither `until` nor `resumed` it may also be what the server did by itself just before it read our `join`: begin anew.
        else if (isUnsure && this.#past && frame.until === frame.resumed) this.#sendLeave();
        else this.#enter(frame, now);
      }
      if (isError) this.#refused(frame, now);
    } else if (this.#isIn) {
      if (frame.type === 'signal') this.#emit('emit', 'signal', frame);
      // A signal of ours was refused. But a `join` that came too late, as the server has joined us by itself, is no mistake.
      if (isError && frame.code !== 'already_member') this.#emit('report', errorOf(frame));
      if (frame.type === 'message') this.#message(this.#whole(frame), now);
      if (frame.type === 'reset') this.#reset(frame, now);
      if (frame.type === 'left') this.#putOut(frame, now);
    }
  }

  get #isToJoin() {
    return this.#connected && this.wanted && (this.phase === 'out' || (this.phase === 'joining' && !this.#asked));
  }

  get #isIn() {
    return this.phase === 'replaying' || this.phase === 'live';
  }

  /** What to ask for of the past. */
  get #past() {
    const { last } = this.#options;
    return this.position ? { after: this.#doubt ?? this.position } : last && !this.#missed ? { last } : undefined;
  }

  /** Joins, or waits until the server has done so by itself. @param {number} now */
  #join(now) {
    const { given } = this.#options;
    const frame = given.get(this.name);
    const hasWaited = this.phase === 'joining';
    this.phase = 'joining';
    this.#asked = this.#given = false;
    if (frame) this.#meet(frame, now);
    else if (hasWaited || !given.has(this.name)) this.#ask();
    else this.#retryAt = now + PATIENCE;
  }

  #ask() {
    this.#asked = true;
    this.#emit('send', { type: 'join', room: this.name, username: this.username, ...this.#past });
  }

  /**
   * The server has joined the room by itself. A join of our own that wants something of the past takes the place of that.
   *
   * @param {Frame} frame @param {number} now
   */
  #meet(frame, now) {
    this.#options.given.delete(this.name);
    this.#retryAt = 0;
    if (!this.#past) return this.#enter(frame, now);
    this.#given = true;
    this.#ask();
  }

  /** The room is not joined, at least for now. */
  #away() {
    this.#emit('emit', 'interrupted', undefined);
  }

  #sendLeave() {
    this.#options.given.delete(this.name);
    this.#away();
    this.phase = 'leaving';
    this.#flying = undefined;
    this.#emit('send', { type: 'leave', room: this.name });
  }

  /** For the server, we are no longer a member. @param {number} now */
  #gone(now) {
    this.phase = this.wanted ? 'out' : 'ended';
    if (this.wanted) this.wake(now);
  }

  /** @param {Frame} frame @param {number} now */
  #refused(frame, now) {
    if (PASSING.includes(frame.code ?? '') || frame.retry_after_ms) return this.#retryLater(frame, now);
    // For the server, we are a member: begin anew.
    if (frame.code === 'already_member') return this.#sendLeave();
    // Whoever may not read what was said before has a gap after each break.
    if (frame.right === 'history' && this.position !== this.#options.after) {
      this.#missed = this.position;
      this.position = this.#doubt = undefined;
      return this.#join(now);
    }
    if (this.#given) this.#sendLeave();
    this.refuse(frame);
  }

  /** @param {Frame} frame @param {number} now */
  #putOut(frame, now) {
    if (frame.reason === 'forbidden') this.refuse({ code: frame.reason, message: 'the token no longer allows this room' });
    else this.#retryLater(frame, now);
  }

  /** Retry after a while: to join, or to send what was refused. @param {Frame} frame @param {number} now */
  #retryLater(frame, now) {
    if (frame.type === 'left') this.#away();
    if (frame.type === 'left' || this.phase === 'joining') this.phase = 'out';
    this.#flying = undefined;
    this.#refusedAt = now;
    this.#retryAt = now + (frame.retry_after_ms ?? 0) + backoff(this.#attempt++, this.#options.random);
  }

  /** @param {Frame} frame @param {number} now */
  #enter(frame, now) {
    const place = at(frame);
    this.#acked.clear();
    this.phase = 'replaying';
    // Whoever resumes from before a doubt has had what lies between.
    if (!this.#isPast(place)) this.position = place;
    this.#joined = frame;
    this.#replayed = frame.resumed !== undefined;
    this.#epoch = undefined;
    // If our position is unknown to the server, at least a `reset` must follow.
    this.#until = place && (frame.until ?? (frame.resumed === false ? 0 : undefined));
    if (this.#missed) this.#gap({ after: this.#missed, upTo: place, reason: 'forbidden' });
    this.#missed = undefined;
    if (this.#until === undefined) this.#live(now);
    this.#turn();
  }

  /**
   * A message with what a slim one leaves out: the epoch is the room's, and the id that of our own message if its `ack` came
   * before it.
   *
   * @param {Frame} frame @returns {Frame}
   */
  #whole(frame) {
    if (frame.seq === undefined || frame.epoch !== undefined) return frame;
    const id = frame.id ?? this.#acked.get(frame.seq);
    this.#acked.delete(frame.seq);
    return { ...frame, ...(id !== undefined && { id }), epoch: this.position?.epoch };
  }

  /** @param {Frame} frame @param {number} now */
  #message(frame, now) {
    const place = at(frame);
    const own = this.unsent.find(({ id }) => id === frame.id);
    if (own) this.#kept(own, place);
    if (place && this.position) {
      const { epoch, seq } = this.position;
      if (this.#isPast(place)) {
        this.#progress(place, now);
        return this.#pump(now);
      }
      if (place.epoch !== epoch || place.seq > seq + 1) {
        // The server promises that this never happens, but a gap must not be silent if it does.
        const upTo = { epoch: place.epoch, seq: place.seq - 1 };
        this.#gap({ after: this.position, upTo, reason: 'missed' });
      }
      // Whose it is, a slim message without an id does not say. Its name would tell no more: servers may write ours otherwise.
      if (frame.id === undefined && this.unsent.some((unsent) => unsent.sent && contentOf(unsent) === contentOf(frame))) {
        this.#doubt ??= this.position;
      }
      this.position = place;
    }
    this.#emit('emit', 'message', frame);
    if (place) this.#progress(place, now);
    this.#pump(now);
  }

  /** @param {Frame} frame @param {number} now */
  #reset(frame, now) {
    const upTo = at(frame);
    this.#acked.clear();
    this.#doubt = undefined;
    // What lies before a doubt is lost only to the replay.
    const isOld = frame.reason === 'trimmed' && this.#isPast(upTo);
    this.#gap({ after: this.position, upTo, reason: frame.reason ?? '' }, isOld);
    if (!isOld) this.position = upTo;
    if (upTo) this.#progress(upTo, now);
  }

  /** Whether we have had what is at this place. @param {Position | undefined} place */
  #isPast(place) {
    return place && place.epoch === this.position?.epoch && place.seq <= this.position.seq;
  }

  /** It may have swallowed what was sent before its end. @param {Omit<Gap, 'filled'>} gap @param {boolean} [isOld] */
  #gap(gap, isOld) {
    const { epoch = '', seq = 0 } = gap.upTo ?? {};
    for (const { id, sent, after } of this.unsent) {
      if (sent && !(after?.epoch === epoch && after.seq >= seq)) this.#inGap.add(id);
    }
    if (!isOld) this.#emit('emit', 'reset', { ...gap, filled: false });
  }

  /** The stream is at this position; this may end the replay. @param {Position} place @param {number} now */
  #progress({ epoch, seq }, now) {
    if (this.phase !== 'replaying') return;
    this.#epoch ??= epoch;
    if (epoch !== this.#epoch || seq >= /** @type {number} */ (this.#until)) this.#live(now);
  }

  /** Everything that was missed has come. @param {number} now */
  #live(now) {
    this.phase = 'live';
    this.#attempt = 0;
    this.unsent = this.unsent.map((unsent) => {
      if (!unsent.sent || this.#inGap.has(unsent.id)) return unsent;
      // It has not arrived. If a dead server's publish still reaches Redis, it meets the id there.
      if (this.#replayed) return { ...unsent, since: now };
      this.#inGap.add(unsent.id);
      return unsent;
    });
    const { resumed, originServer } = /** @type {Frame} */ (this.#joined);
    this.#emit('emit', 'joined', { position: this.position, resumed, originServer });
    this.#pump(now);
  }

  /** Sends the next message, if one may go out. @param {number} now */
  #pump(now) {
    if (!this.unsent.some(({ sent }) => sent)) this.#doubt = undefined;
    while (this.phase === 'live' && !this.#flying && this.unsent.length && this.#mayTry(now)) {
      const [next, ...others] = this.unsent;
      if (next.sent && !this.#isRemembered(next, now)) {
        // Only a replay can tell whether it arrived.
        if (this.position && !this.#inGap.has(next.id)) return this.#sendLeave();
        this.#fail(next, { code: 'outcome_unknown', message: 'nobody can tell whether it was kept' }, true);
        continue;
      }
      this.#again = next.sent;
      if (!next.sent) {
        const fresh = { ...next, sent: true, since: now, after: this.position };
        this.unsent = [fresh, ...others];
        this.#emit('put', fresh);
      }
      this.#flying = next.id;
      const { id, text, event, data } = next;
      this.#emit('send', { type: 'message', room: this.name, id, text, event, data });
    }
  }

  /** Asks for the next page of the history, if that can be done now. */
  #turn() {
    const wish = this.#isIn && this.#pages.ask();
    if (wish) this.#emit('send', { type: 'history', room: this.name, ...wish });
  }

  /** Whether the wait is over; setting the clock back does not prolong it. @param {number} now */
  #mayTry(now) {
    return now >= this.#retryAt || now < this.#refusedAt;
  }

  /** Whether the server still knows the id, if the message was kept. @param {Unsent} unsent @param {number} now */
  #isRemembered({ since = -Infinity }, now) {
    return this.position && now >= since && now - since <= this.#options.dedupWindow;
  }

  /** @param {Frame} frame @param {number} now */
  #answered(frame, now) {
    const own = this.unsent.find(({ id }) => id === frame.id);
    const wasFlying = frame.id === this.#flying;
    if (wasFlying) this.#flying = undefined;
    if (frame.type === 'ack') {
      const place = at(frame);
      if (place && this.position?.epoch === place.epoch && place.seq > this.position.seq) {
        this.#acked.set(place.seq, /** @type {string} */ (frame.id));
      }
      if (own) this.#kept(own, place);
    } else if (frame.code === 'not_member') {
      // The membership ended meanwhile, so the message was refused.
      if (wasFlying && this.phase === 'live') this.#retryLater({ type: 'left' }, now);
    } else if (PASSING.includes(frame.code ?? '') || frame.retry_after_ms) {
      if (wasFlying) this.#retryLater(frame, now);
    } else if (own) {
      this.#fail(own, frame, this.#again);
    }
    this.#pump(now);
  }

  /** @param {Unsent} unsent @param {Position | undefined} place */
  #kept(unsent, place) {
    this.#attempt = 0;
    this.#remove(unsent);
    this.#emit('kept', unsent, place);
  }

  /** @param {Unsent} unsent @param {Refusal} refusal @param {boolean} [maybeKept] */
  #fail(unsent, refusal, maybeKept) {
    this.#remove(unsent);
    this.#emit('failed', unsent, errorOf(refusal, maybeKept));
  }

  /** Ends the room for good. @param {Refusal} refusal */
  #giveUp(refusal) {
    this.end(errorOf(refusal));
    for (const unsent of this.unsent) this.#fail(unsent, refusal, unsent.sent);
  }

  /** @param {Unsent} unsent */
  #remove({ id }) {
    this.#inGap.delete(id);
    if (this.#flying === id) this.#flying = undefined;
    this.unsent = this.unsent.filter((unsent) => unsent.id !== id);
  }

  /** @param {Effect} effect */
  #emit(...effect) {
    this.#options.effect(effect);
  }
}

/** The position in a frame, if it has one. @param {Frame} frame @returns {Position | undefined} */
function at({ epoch, seq }) {
  return epoch !== undefined && seq !== undefined ? { epoch, seq } : undefined;
}

/** What a refusal says. @param {Refusal} refusal @param {boolean} [maybeKept] */
export function errorOf({ code = 'unknown', message = 'the server refused it', right }, maybeKept) {
  return new RoomcastError(code, message, maybeKept, right);
}

/** What is said, in a form in which it can be compared. @param {Content} content */
function contentOf({ text, data, event }) {
  return JSON.stringify([text, data, event]);
}

/** Bytes of what is said, in UTF-8. @param {Content} content */
export function sizeOf({ text = '', data = '', event = '' }) {
  return new TextEncoder().encode(text + (data && JSON.stringify(data)) + event).length;
}
