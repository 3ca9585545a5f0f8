import { connect } from './roomcast.js';

/** How many messages to load at a time, and how long that may take. */
const AT_ONCE = 100;
const PATIENCE = 10_000;

/**
 * Loads what was said before a message, over a separate short connection that joins with an earlier position.
 *
 * @param {URL} url @param {string} room
 * @param {Partial<import('../clients/js/roomcast.d.ts').ConnectOptions>} identity
 * @param {import('../clients/js/roomcast.d.ts').Position} first The position of the first message that is there already.
 * @returns {Promise<{ messages: import('../clients/js/roomcast.d.ts').Message[], isAll: boolean }>} `isAll` says that nothing is before these.
 */
export function loadEarlier(url, room, identity, first) {
  const from = Math.max(0, first.seq - 1 - AT_ONCE);
  const messages = [];
  let isAll = from === 0;
  const { promise, resolve, reject } = Promise.withResolvers();
  const chat = connect(url, { ...identity, signal: AbortSignal.timeout(PATIENCE) });
  const joined = chat.join(room, { after: { epoch: first.epoch, seq: from } });
  joined.on('message', message => {
    if (message.epoch !== first.epoch) return;
    if (message.seq < first.seq) messages.push(message);
    // The rest of the replay is there already.
    if (message.seq >= first.seq - 1) resolve();
  });
  // The log does not reach back so far, or has begun anew.
  joined.on('reset', ({ upTo }) => {
    isAll = true;
    if (upTo?.epoch !== first.epoch || upTo.seq >= first.seq - 1) resolve();
  });
  joined.on('joined', () => resolve());
  joined.on('state', ({ name, error }) => {
    if (name === 'left') reject(error ?? new Error('the room was left'));
  });
  chat.on('state', ({ name, why }) => {
    if (name === 'closed') reject(new Error(why));
  });
  return promise.then(() => ({ messages, isAll })).finally(() => chat.close());
}
