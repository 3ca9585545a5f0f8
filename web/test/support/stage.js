// What the tests play on: two servers on one Redis behind the project's own nginx, and a browser.
import { mkdtemp, readFile, rm, chmod, writeFile, mkdir } from 'node:fs/promises';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { existsSync } from 'node:fs';

import { chromium } from 'playwright-core';

import { Redis, Server, freePort, until } from '../../../clients/js/test/support/servers.js';

export { Server, freePort, until };

const ROOT = new URL('../../../', import.meta.url).pathname;
const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What lasts for a whole file: takes what is to be ended, as a test does, and ends it, the last first. */
export class Lasting {
  #ends = [];

  after(end) {
    this.#ends.push(end);
  }

  async end() {
    for (const end of this.#ends.reverse()) await end();
  }
}

/** Two servers, `server-1` and `server-2`, on one Redis. @param settings More settings, for both. */
export async function cluster(t, settings = {}) {
  const redis = await Redis.start(t);
  const servers = await Promise.all([1, 2].map((n) => Server.start(t, { redis, name: `server-${n}`, ...settings })));
  return { redis, servers };
}

/** Publishes on a channel of Redis, as a server of another kind does. */
export async function publish(redis, channel, text) {
  const socket = connect(redis.port, '127.0.0.1');
  const parts = ['PUBLISH', channel, text].map((part) => `$${Buffer.byteLength(part)}\r\n${part}\r\n`);
  socket.write(`*3\r\n${parts.join('')}`);
  const [answer] = await once(socket, 'data');
  socket.destroy();
  if (!String(answer).startsWith(':')) throw new Error(String(answer));
}

/** nginx in front of them, as scripts/cluster.sh has it. It knows a client again by its `address` or by a `cookie`. */
export async function nginx(t, servers, affinity = 'address') {
  const port = await freePort();
  const dir = await mkdtemp(join(tmpdir(), 'roomcast-page-'));
  // As root, nginx hands its work to the user nobody, who must get through to its temporary files.
  await chmod(dir, 0o711);
  const config = (await readFile(join(ROOT, 'docker/nginx.conf'), 'utf8'))
    .replace(/ *# Doors[^]*# End of the doors.*\n/, '')
    .replaceAll('/tmp/', `${dir}/`)
    .replace('listen 8080', `listen 127.0.0.1:${port}`)
    .replace('set $affinity address', `set $affinity ${affinity}`)
    .replaceAll('127.0.0.1:8001', `127.0.0.1:${servers[0].port}`)
    .replaceAll('127.0.0.1:8002', `127.0.0.1:${servers[1].port}`);
  await writeFile(join(dir, 'nginx.conf'), config);
  const program = process.env.PATH.split(delimiter).concat('/usr/sbin').map((place) => join(place, 'nginx')).find(existsSync);
  const child = spawn(program, ['-p', `${dir}/`, '-c', join(dir, 'nginx.conf'), '-g', 'daemon off;'], { stdio: 'ignore' });
  const ended = once(child, 'exit');
  t.after(async () => {
    child.kill('SIGTERM');
    await ended;
    await rm(dir, { recursive: true, force: true });
  });
  const ready = () => fetch(`http://127.0.0.1:${port}/readyz`).then(({ ok }) => ok, () => false);
  await until(ready, 'nginx leads to a server');
  return { port };
}

/** A browser, which is closed with the test. */
export async function browser(t) {
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  // Chromium has no sandbox for root.
  const args = process.getuid() === 0 ? ['--no-sandbox'] : [];
  const started = await chromium.launch({ executablePath, args });
  t.after(() => started.close());
  return started;
}

/** A person with a browser profile of their own. Whatever the page reports that is wrong fails the test. */
export async function person(t, browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 720 }, locale: 'en-GB', ...options });
  context.setDefaultTimeout(15_000);
  const faults = [];
  await context.exposeFunction('reportFault', (fault) => faults.push(fault));
  await context.addInitScript(() => {
    addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI, sourceFile }) =>
      reportFault(`the policy forbids ${violatedDirective} ${blockedURI} in ${sourceFile}`));
    addEventListener('unhandledrejection', ({ reason }) => reportFault(`nobody handles ${reason}`));
  });
  context.on('weberror', (error) => faults.push(String(error.error())));
  context.on('console', (message) => {
    // That a server is away is what is tested.
    const isExpected = message.type() !== 'error' || /WebSocket connection to|WebSocket is already in|Failed to load resource/.test(message.text());
    if (!isExpected) faults.push(message.text());
  });
  t.after(async () => {
    await context.close();
    if (faults.length > 0) throw new Error(faults.join('\n'));
  });
  return context;
}

/** Opens a room's page, and waits until it is in. */
export async function enter(context, { port }, name, { room = 'lobby', isIn = true } = {}) {
  const page = await context.newPage();
  await page.goto(`http://127.0.0.1:${port}/?${new URLSearchParams({ room, name })}`);
  if (isIn) await connected(page);
  return page;
}

export function connected(page, server = '') {
  return page.locator(`#state[data-is=open]`, { hasText: `Connected to ${server}` }).waitFor();
}

/** Types a message and sends it. */
export async function say(page, text) {
  await page.locator('#draft').fill(text);
  await page.locator('#draft').press('Enter');
}

/** Waits for a message, and that it is the only one with this text. */
export async function hears(page, text) {
  const found = page.locator('#rows .message .text', { hasText: exactly(text) });
  await found.first().waitFor();
  const count = await found.count();
  if (count !== 1) throw new Error(`“${text}” is there ${count} times`);
}

/** Waits until nothing waits to be kept. */
export function allKept(page) {
  return page.waitForFunction(() => document.querySelectorAll('#unsent .message:not(.failed)').length === 0);
}

/** What the page counts, once its details are shown. */
export async function facts(page) {
  const details = page.locator('#details');
  if ((await details.getAttribute('aria-pressed')) !== 'true') await details.click();
  const text = await page.locator('#facts').innerText();
  return Object.fromEntries(text.split(' · ').map((fact) => /^(.*) (\S+)$/.exec(fact).slice(1)));
}

export function texts(page) {
  return page.locator('#rows .message .text').allInnerTexts();
}

/** Fails if axe finds anything on the page as it is now, in light or in dark. */
export async function isAccessible(page, what) {
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    // The debugger's own door is not closed by the page's policy.
    await page.evaluate(AXE);
    const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ['violations'] }));
    const found = violations.map(({ id, help, nodes }) => `${id}: ${help}\n  ${nodes.map(({ html }) => html).join('\n  ')}`);
    if (found.length > 0) throw new Error(`${what}, in ${colorScheme}:\n${found.join('\n')}`);
  }
  await page.emulateMedia({ colorScheme: null });
}

/** Takes a picture for the docs, if SCREENSHOTS is set; else nothing is written. */
export async function picture(page, name, options = {}) {
  if (!process.env.SCREENSHOTS) return;
  const folder = join(ROOT, 'docs/images');
  await mkdir(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`), ...options });
}

function exactly(text) {
  return new RegExp(`^${text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`);
}
