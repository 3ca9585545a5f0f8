/** @import { Environment } from './client.js' */
import { Client } from './client.js';

export { RoomcastError } from './error.js';

/** @type {Environment} */
const ENVIRONMENT = {
  now: () => Date.now(),
  random: () => Math.random(),
  isOnline: () => globalThis.navigator?.onLine !== false,
  watch: (listener, signal) => {
    const { document } = globalThis;
    globalThis.addEventListener?.('online', () => listener('online'), { signal });
    globalThis.addEventListener?.('offline', () => listener('offline'), { signal });
    document?.addEventListener(
      'visibilitychange',
      () => {
        if (document.visibilityState === 'visible') listener('shown');
      },
      { signal },
    );
  },
};

/** @type {typeof import('../roomcast.d.ts').connect} */
export function connect(url, options = {}) {
  const { WebSocket = globalThis.WebSocket } = options;
  if (!WebSocket) throw new TypeError('there is no WebSocket here: give the class of one as `WebSocket`');
  return new Client(addressOf(url), { ...options, WebSocket }, ENVIRONMENT);
}

/** @param {string | URL} given */
function addressOf(given) {
  const address = new URL(given, globalThis.location?.href);
  address.protocol = address.protocol.replace(/^http/, 'ws');
  address.hash = '';
  if (!/^wss?:$/.test(address.protocol)) throw new TypeError(`${given} is not a URL such as wss://chat.example.com/ws`);
  return address.href;
}
