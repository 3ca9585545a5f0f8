// Redis and roomcast servers as real processes on free ports of this machine, and a TCP proxy between them and a client.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, connect as tcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const BIN = process.env.ROOMCAST_BIN ?? new URL('../../../../target/debug/roomcast', import.meta.url).pathname;

/** Waits until `condition` is something, and fails with `what` if it is not in time. */
export async function until(condition, what, { within = 20_000 } = {}) {
  const deadline = Date.now() + within;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`not within ${within} ms: ${typeof what === 'function' ? what() : what}`);
    await sleep(10);
  }
}

/** A port that nobody listened on a moment ago. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A program that is ended with the test. */
class Process {
  constructor(name, command, args, env = {}) {
    this.name = name;
    this.output = '';
    this.child = spawn(command, args, { env: { PATH: process.env.PATH, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    this.ended = new Promise((resolve) => {
      this.child.once('exit', resolve);
      this.child.once('error', (error) => {
        this.output += error;
        resolve(error);
      });
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.on('data', (data) => (this.output = (this.output + data).slice(-10_000)));
    }
  }

  /** Waits until a TCP connection to the port leads to an answer. */
  async answers(ask) {
    const died = this.ended.then(() => {
      throw new Error(`${this.name} has ended:\n${this.output}`);
    });
    died.catch(() => {});
    await Promise.race([until(ask, () => `${this.name} answers; it said:\n${this.output}`), died]);
  }

  async signal(signal) {
    this.child.kill(signal);
    await this.ended;
  }
}

/** A Redis with its data in a folder of its own. */
export class Redis {
  static async start(t, { appendOnly = true } = {}) {
    const redis = new Redis();
    redis.port = await freePort();
    redis.appendOnly = appendOnly;
    redis.dir = await mkdtemp(join(tmpdir(), 'roomcast-js-'));
    await redis.start();
    t.after(async () => {
      await redis.kill();
      await rm(redis.dir, { recursive: true, force: true });
    });
    return redis;
  }

  get url() {
    return `redis://127.0.0.1:${this.port}/0`;
  }

  async start() {
    const settings = ['--bind', '127.0.0.1', '--save', '', '--appendonly', this.appendOnly ? 'yes' : 'no', '--dir', this.dir];
    this.process = new Process('redis-server', 'redis-server', ['--port', String(this.port), ...settings]);
    await this.process.answers(() => this.command('PING').then((answer) => answer.startsWith('+PONG'), () => false));
  }

  kill() {
    return this.process.signal('SIGKILL');
  }

  /** Sends one command in a line, and returns the beginning of the answer. */
  async command(line) {
    const socket = tcp(this.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write(`${line}\r\n`);
    const [data] = await once(socket, 'data', { signal: AbortSignal.timeout(2000) });
    socket.destroy();
    return String(data);
  }
}

/** A roomcast server. */
export class Server {
  static async start(t, { redis, name, port, ...env } = {}) {
    const server = new Server();
    server.port = port ?? (await freePort());
    server.name = name ?? `server-${server.port}`;
    server.env = {
      ROOMCAST_LISTEN: `127.0.0.1:${server.port}`,
      ROOMCAST_ORIGIN_SERVER: server.name,
      ROOMCAST_DRAIN_TIME: '1s',
      ROOMCAST_READY_GRACE: '0s',
      ROOMCAST_LIMITS: 'off',
      ...(redis && { ROOMCAST_REDIS_URL: redis.url }),
      ...env,
    };
    await server.start();
    t.after(() => server.kill());
    return server;
  }

  get url() {
    return `ws://127.0.0.1:${this.port}/ws`;
  }

  async start() {
    this.process = new Process(this.name, BIN, [], this.env);
    await this.process.answers(() =>
      fetch(`http://127.0.0.1:${this.port}/readyz`).then(({ ok }) => ok, () => false),
    );
  }

  kill() {
    return this.process.signal('SIGKILL');
  }

  /** Asks it to end in order, and waits until it has. */
  drain() {
    return this.process.signal('SIGTERM');
  }
}

/** A TCP proxy whose connections can be cut, held still, or led to another server. */
export class Proxy {
  static async start(t, target) {
    const proxy = new Proxy();
    proxy.target = target;
    proxy.pairs = new Set();
    proxy.refuses = proxy.isStill = false;
    proxy.accepted = 0;
    proxy.server = createServer((client) => proxy.accept(client)).listen(0, '127.0.0.1');
    await once(proxy.server, 'listening');
    proxy.port = proxy.server.address().port;
    t.after(() => {
      proxy.server.close();
      proxy.cut();
    });
    return proxy;
  }

  get url() {
    return `ws://127.0.0.1:${this.port}/ws`;
  }

  accept(client) {
    client.on('error', () => {});
    if (this.refuses) return client.destroy();
    this.accepted++;
    const server = tcp(this.target.port, '127.0.0.1');
    const pair = [client, server];
    this.pairs.add(pair);
    for (const [from, to] of [pair, [server, client]]) {
      from.on('error', () => to.destroy());
      from.on('close', () => {
        to.destroy();
        this.pairs.delete(pair);
      });
      from.on('end', () => to.end());
      from.on('data', (data) => {
        if (this.onData) this.onData(from === client ? 'up' : 'down', data, pair);
        if (!to.destroyed && to.writable && !this.drops?.(from === client ? 'up' : 'down', data)) to.write(data);
      });
    }
    if (this.isStill) this.hold();
  }

  /** Ends all connections as a network does, without a word of the protocol. */
  cut() {
    for (const pair of this.pairs) for (const socket of pair) socket.destroy();
  }

  /** From now on nothing passes, and nobody is told. */
  hold() {
    this.isStill = true;
    for (const pair of this.pairs) for (const socket of pair) socket.pause();
  }

  release() {
    this.isStill = false;
    for (const pair of this.pairs) for (const socket of pair) socket.resume();
  }
}
