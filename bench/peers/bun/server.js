// Bun with its native topics (uWebSockets, in C++) and its own Redis client, to the same rules as the Node peer.
import { RedisClient } from 'bun';

const BROADCAST = 'ws:broadcast';
const ROOM = 'ws:room:';

const port = Number(process.env.PORT);
const originServer = `127.0.0.1:${port}`;
const commands = new RedisClient(process.env.REDIS_URL);
const subscriber = new RedisClient(process.env.REDIS_URL);

/** Rooms with local members, with their number and the promise of their subscription. */
const rooms = new Map();

function receive(frame, channel) {
  if (JSON.parse(frame).originServer !== originServer) server.publish(channel, frame);
}

/** Topics have the names of the channels, so that what comes from Redis needs no table. */
function publish(channel, event) {
  const frame = JSON.stringify({ ...event, ts: Date.now(), originServer });
  server.publish(channel, frame);
  commands.publish(channel, frame).catch((error) => console.error(`publish: ${error.message}`));
}

async function join(socket, { room, username }) {
  if (!socket.data.rooms.has(room)) {
    const entry = rooms.get(room) ?? { members: 0, subscribed: subscriber.subscribe(ROOM + room, receive) };
    entry.members += 1;
    rooms.set(room, entry);
    socket.subscribe(ROOM + room);
  }
  socket.data.rooms.set(room, username);
  const entry = rooms.get(room);
  await entry.subscribed;
  socket.send(JSON.stringify({ type: 'joined', room, members: entry.members }));
}

function leave(socket, room) {
  if (!socket.data.rooms.delete(room)) return;
  socket.unsubscribe(ROOM + room);
  const entry = rooms.get(room);
  entry.members -= 1;
  if (entry.members === 0) {
    rooms.delete(room);
    subscriber.unsubscribe(ROOM + room).catch((error) => console.error(`unsubscribe: ${error.message}`));
  }
}

function carryOut(socket, command) {
  const { type, text, id } = command;
  const own = socket.data.rooms;
  const room = command.room ?? own.keys().next().value;
  switch (type) {
    case 'join':
      return join(socket, command);
    case 'leave':
      leave(socket, room);
      return socket.send(JSON.stringify({ type: 'left', room }));
    case 'message':
      if (!own.has(room)) return refuse(socket, 'not_in_room');
      return publish(ROOM + room, { type, room, username: own.get(room), text, id });
    case 'broadcast':
      return publish(BROADCAST, { type, text, id });
    case 'ping':
      return socket.send('{"type":"pong"}');
    default:
      return refuse(socket, 'unknown_type');
  }
}

function refuse(socket, code) {
  socket.send(JSON.stringify({ type: 'error', code }));
}

await subscriber.connect();
await commands.connect();
await subscriber.subscribe(BROADCAST, receive);

const server = Bun.serve({
  port,
  hostname: '127.0.0.1',
  fetch: (request, server) =>
    server.upgrade(request, { data: { rooms: new Map() } }) ? undefined : new Response('ok'),
  websocket: {
    perMessageDeflate: false,
    maxPayloadLength: 128 * 1024,
    sendPings: true,
    open: (socket) => socket.subscribe(BROADCAST),
    close: (socket) => [...socket.data.rooms.keys()].forEach((room) => leave(socket, room)),
    message(socket, data) {
      let command;
      try {
        command = JSON.parse(data);
      } catch {
        return refuse(socket, 'bad_json');
      }
      carryOut(socket, command);
    },
  },
});
