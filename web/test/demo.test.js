// `make demo` as somebody sees it who opens its page.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';

import { browser, connected, facts, freePort, hears, person, picture, say, until } from './support/stage.js';

const DEMO = join(dirname(process.env.ROOMCAST_BIN), 'roomcast-faults');
const isThere = existsSync(DEMO);
if (!isThere && process.env.CI === 'true') throw new Error(`${DEMO} is not there: cargo build --workspace`);

test('the demo is seen to lose nothing', { skip: isThere ? false : `${DEMO} is not there: cargo build --workspace` }, async (t) => {
  const ports = {};
  for (const name of ['PORT', 'PORT_1', 'PORT_2', 'PORT_3', 'REDIS_PORT']) ports[name] = String(await freePort());
  const env = { ...process.env, ...ports, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
  const demo = spawn(DEMO, ['demo', '--once', '--quick', '--server', process.env.ROOMCAST_BIN], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = once(demo, 'exit');
  t.after(async () => {
    demo.kill('SIGTERM');
    await ended;
  });
  let output = '';
  for (const stream of [demo.stdout, demo.stderr]) stream.on('data', (data) => (output += data));

  const url = await until(() => /^http:\S+$/m.exec(output)?.[0], () => `it says what to open: ${output}`);
  const context = await person(t, await browser(t));
  const zoe = await context.newPage();
  await zoe.goto(`${url}&name=zoe`);
  await connected(zoe);
  let count = 0;
  let isPosing = false;
  let saying;
  const talking = (async () => {
    while (demo.exitCode === null && !/In all/.test(output)) {
      if (!isPosing) saying = say(zoe, `Still here, for the ${++count}. time`);
      await saying;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  })();
  // Hundreds of messages later, the page no longer shows the first one.
  await hears(zoe, 'Still here, for the 1. time');
  // The people of the demo are there, and so is the one who says what happens.
  await zoe.locator('#rows .name', { hasText: /^demo$/ }).first().waitFor();
  await zoe.locator('#rows .note.back').first().waitFor({ timeout: 60_000 });
  // Whoever says something is brought to the end.
  isPosing = true;
  await saying;
  await zoe.locator('#rows .note.back').first().evaluate((note) => note.scrollIntoView({ block: 'center' }));
  await picture(zoe, 'page-demo');
  isPosing = false;
  await talking;
  assert.equal(await zoe.locator('#rows .gap').count(), 0);
  const { received, lost, doubled, 'out of order': misordered } = await facts(zoe);
  assert.deepEqual([lost, doubled, misordered], ['0', '0', '0']);
  assert.ok(Number(received) > 20, `${received} messages`);
  const names = new Set(await zoe.locator('#rows .server').allInnerTexts());
  assert.ok(names.size >= 2, `through ${[...names]}`);
  const [code] = await ended;
  assert.equal(code, 0, output);
  await zoe.locator('#state[data-is=waiting], #state[data-is=connecting]').waitFor();
});
