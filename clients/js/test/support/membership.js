// A membership without a network, and the frames that it may meet.
import { Membership } from '../../src/membership.js';

const MINUTE = 60_000;

/** A membership that has just been connected, with what it wants done. */
export function begun({ restored = [], given = new Map(), ...options } = {}) {
  const effects = [];
  const membership = new Membership('lobby', {
    given,
    username: 'ann',
    dedupWindow: 5 * MINUTE,
    maxUnsentAge: 60 * MINUTE,
    random: () => 0,
    effect: (effect) => effects.push(effect),
    ...options,
  });
  membership.restore(restored);
  membership.connected(0);
  const sent = () => effects.filter(([what]) => what === 'send').map(([, frame]) => frame);
  return { membership, effects, sent };
}

export const place = (seq) => ({ epoch: 'e', seq });
export const joined = (seq, more) => ({ type: 'joined', room: 'lobby', ...place(seq), ...more });
export const message = (seq, id) => ({ type: 'message', room: 'lobby', username: 'ann', text: 'x', ...place(seq), id });
export const unsent = (id, more) => ({ id, room: 'lobby', username: 'ann', text: id, at: 0, sent: false, ...more });
export const refusal = (id, code, more) => ({ type: 'error', room: 'lobby', id, code, message: code, ...more });
