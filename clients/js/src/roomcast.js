/** @import { Environment } from './client.js' */
import { Client } from './client.js';

export { RoomcastError } from './error.js';

/** @type {Environment} */
const ENVIRONMENT = {
  now: () => Date.now(),
  random: () => Math.random(),
  isOnline: () => globalThis.navigator?.onLine !== false,
  watch: (listener, signal) => {
    for (const type of ['online', 'offline', 'visibilitychange']) {
      const isHidden = () => type === 'visibilitychange' && document.hidden;
      globalThis.addEventListener?.(type, () => isHidden() || listener(), { signal });
    }
  },
};

/** @type {typeof import('../roomcast.d.ts').connect} */
export function connect(url, options = {}) {
  const { WebSocket = globalThis.WebSocket, transports } = options;
  if (!WebSocket && transports?.includes('websocket') !== false) throw new TypeError('no WebSocket here: give a class as `WebSocket`');
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
