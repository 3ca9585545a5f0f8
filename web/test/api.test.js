// The page that shows the HTTP API.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Server, browser, freePort, person } from './support/stage.js';

const KEY = 'shop-key-0123456789abcdef';

test('every call can be seen and tried, and no other host is asked', async (t) => {
  const port = await freePort();
  const settings = { ROOMCAST_API_LISTEN: `127.0.0.1:${port}`, ROOMCAST_API_KEYS: `shop:publish+read:${KEY}` };
  await Server.start(t, settings);
  const page = await (await person(t, await browser(t))).newPage();
  const hosts = new Set();
  page.on('request', (request) => hosts.add(new URL(request.url()).host));
  await page.goto(`http://127.0.0.1:${port}/v1/docs`);

  await page.locator('.btn.authorize').click();
  await page.locator('.auth-container input').fill(KEY);
  await page.locator('.auth-btn-wrapper .authorize').click();
  await page.locator('.auth-btn-wrapper .btn-done').click();
  const send = page.locator('#operations-messages-send');
  await send.locator('.opblock-summary-control').click();
  await send.locator('input[placeholder=room]').fill('lobby');
  await send.locator('textarea').fill('{"text": "from the page"}');
  await send.locator('.execute').click();
  await send.locator('.live-responses-table .response-col_status', { hasText: '201' }).waitFor();
  assert.match(await send.locator('.live-responses-table tbody .response-col_description').innerText(), /"seq": 1/);

  const shown = await page.locator('.opblock').count();
  const { paths } = await (await fetch(`http://127.0.0.1:${port}/v1/openapi.json`)).json();
  assert.equal(shown, Object.values(paths).flatMap(Object.keys).length);
  assert.deepEqual([...hosts], [`127.0.0.1:${port}`]);
});
