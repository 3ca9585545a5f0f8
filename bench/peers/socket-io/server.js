// Socket.IO with its Redis adapter, set up as its documentation recommends for performance: the WebSocket transport
// alone, bufferutil, and the upgrade request let go once it has been read.
import { createServer } from 'node:http';
import { createAdapter } from '@socket.io/redis-adapter';
import { Redis } from 'ioredis';
import { Server } from 'socket.io';

const port = Number(process.env.PORT);
const originServer = `127.0.0.1:${port}`;
const publisher = new Redis(process.env.REDIS_URL);
const subscriber = publisher.duplicate();

const server = createServer();
const io = new Server(server, {
  adapter: createAdapter(publisher, subscriber, { publishOnSpecificResponseChannel: true }),
  transports: ['websocket'],
  perMessageDeflate: false,
  serveClient: false,
});
io.engine.on('connection', (socket) => {
  socket.request = null;
});

io.on('connection', (socket) => {
  socket.on('join', async ({ room, username }) => {
    socket.data.username = username;
    await socket.join(room);
    socket.emit('joined', { room });
  });
  socket.on('leave', async ({ room }) => {
    await socket.leave(room);
    socket.emit('left', { room });
  });
  socket.on('message', ({ room, text }) => {
    if (!socket.rooms.has(room)) return;
    io.to(room).emit('message', { room, username: socket.data.username, text, ts: Date.now(), originServer });
  });
  socket.on('broadcast', ({ text }) => {
    io.emit('broadcast', { text, ts: Date.now(), originServer });
  });
});

await Promise.all([publisher.ping(), subscriber.ping()].map((answer) => answer.catch(() => {})));
server.listen({ port, host: '127.0.0.1', backlog: 4096 });
