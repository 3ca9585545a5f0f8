// Tokens, as a back end makes them for servers that share this secret with it.
import { createHmac } from 'node:crypto';

const SECRET = 'a secret of the tests, of 32 bytes at least';

/** What a server needs to check them. */
export const KEYED = { ROOMCAST_JWT_SECRET: SECRET, ROOMCAST_JWT_AUDIENCE: 'chat', ROOMCAST_JWT_LEEWAY: '0s' };

/** All rights, everywhere. */
export const ALL = { rooms: { '*': ['*'] } };

const encoded = (part) => Buffer.from(JSON.stringify(part)).toString('base64url');

/** A token for this user, good for so many seconds. */
export function token(sub, roomcast = ALL, { lasts = 3600, secret = SECRET } = {}) {
  const now = Math.floor(Date.now() / 1000);
  const claims = { sub, aud: 'chat', iat: now, exp: now + lasts, roomcast };
  const signed = `${encoded({ alg: 'HS256' })}.${encoded(claims)}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}
