// A network that lets no WebSocket through.
import { Proxy } from './servers.js';

/** A proxy that answers every upgrade with 403, or breaks it off, for as long as `proxy.blocks` says so. */
export async function blocking(t, server, how = 'refuse') {
  const proxy = await Proxy.start(t, server);
  proxy.blocks = how;
  proxy.requests = [];
  const isUpgrade = (direction, data) => direction === 'up' && /^upgrade: websocket/im.test(String(data));
  proxy.onData = (direction, data, [client]) => {
    const [, line] = (direction === 'up' && /^((?:GET|POST|OPTIONS) \S+) HTTP/.exec(String(data))) || [];
    if (line) proxy.requests.push(isUpgrade(direction, data) ? 'upgrade' : line);
    if (!proxy.blocks || !isUpgrade(direction, data)) return;
    if (proxy.blocks === 'refuse') client.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
    else client.resetAndDestroy();
  };
  proxy.drops = (direction, data) => proxy.blocks && isUpgrade(direction, data);
  return proxy;
}
