// Node `ws` with `ioredis`, to the rules that a foreign server must keep to share a Redis with roomcast: local members
// get a message at once, the others through Redis, and what comes back with our own name is dropped.
import { createServer } from 'node:http';
import { Redis } from 'ioredis';
import { WebSocketServer } from 'ws';

const PING_INTERVAL = 25_000;
const BROADCAST = 'ws:broadcast';
const ROOM = 'ws:room:';

const port = Number(process.env.PORT);
const originServer = `127.0.0.1:${port}`;
const commands = new Redis(process.env.REDIS_URL, { enableAutoPipelining: true });
const subscriber = new Redis(process.env.REDIS_URL);
const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: 128 * 1024 });

/** Local members by room; a room without any is not in it, and its channel is not subscribed. */
const rooms = new Map();

function deliver(members, frame) {
  for (const member of members ?? []) member.send(frame, { binary: false });
}

/** One encoding serves the local members and Redis. */
function publish(channel, members, event) {
  const frame = Buffer.from(JSON.stringify({ ...event, ts: Date.now(), originServer }));
  deliver(members, frame);
  commands.publish(channel, frame).catch((error) => console.error(`publish: ${error.message}`));
}

async function join(socket, { room, username }) {
  socket.rooms.set(room, username);
  let members = rooms.get(room);
  if (!members) {
    members = new Set();
    members.subscribed = subscriber.subscribe(ROOM + room);
    rooms.set(room, members);
  }
  members.add(socket);
  await members.subscribed;
  socket.send(JSON.stringify({ type: 'joined', room, members: members.size }));
}

function leave(socket, room) {
  if (!socket.rooms.delete(room)) return;
  const members = rooms.get(room);
  members.delete(socket);
  if (members.size === 0) {
    rooms.delete(room);
    subscriber.unsubscribe(ROOM + room).catch((error) => console.error(`unsubscribe: ${error.message}`));
  }
}

function carryOut(socket, command) {
  const { type, text, id } = command;
  const room = command.room ?? socket.rooms.keys().next().value;
  switch (type) {
    case 'join':
      return join(socket, command);
    case 'leave':
      leave(socket, room);
      return socket.send(JSON.stringify({ type: 'left', room }));
    case 'message':
      if (!socket.rooms.has(room)) return refuse(socket, 'not_in_room');
      return publish(ROOM + room, rooms.get(room), { type, room, username: socket.rooms.get(room), text, id });
    case 'broadcast':
      return publish(BROADCAST, sockets.clients, { type, text, id });
    case 'ping':
      return socket.send('{"type":"pong"}');
    default:
      return refuse(socket, 'unknown_type');
  }
}

function refuse(socket, code) {
  socket.send(JSON.stringify({ type: 'error', code }));
}

sockets.on('connection', (socket) => {
  socket.rooms = new Map();
  socket.isAlive = true;
  socket.on('pong', () => (socket.isAlive = true));
  socket.on('error', () => socket.terminate());
  socket.on('close', () => [...socket.rooms.keys()].forEach((room) => leave(socket, room)));
  socket.on('message', (data) => {
    let command;
    try {
      command = JSON.parse(data);
    } catch {
      return refuse(socket, 'bad_json');
    }
    carryOut(socket, command);
  });
});

subscriber.on('messageBuffer', (channel, frame) => {
  if (JSON.parse(frame).originServer === originServer) return;
  const name = channel.toString();
  deliver(name === BROADCAST ? sockets.clients : rooms.get(name.slice(ROOM.length)), frame);
});

setInterval(() => {
  for (const socket of sockets.clients) {
    if (!socket.isAlive) {
      socket.terminate();
      continue;
    }
    socket.isAlive = false;
    socket.ping();
  }
}, PING_INTERVAL);

await subscriber.subscribe(BROADCAST);
const server = createServer((_, response) => response.end('ok'));
server.on('upgrade', (request, socket, head) =>
  sockets.handleUpgrade(request, socket, head, (client) => sockets.emit('connection', client)),
);
server.listen({ port, host: '127.0.0.1', backlog: 4096 });
