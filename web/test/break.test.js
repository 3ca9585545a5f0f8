// What breaks on the way, and what the page makes of it.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';

import {
  Lasting, Server, allKept, browser, cluster, connected, enter, facts, hears, isAccessible, nginx, person, picture, say, texts, until,
} from './support/stage.js';

const NONE = ['0', '0', '0'];

/** How much was lost, doubled and out of order, as the page counts. */
async function damage(page) {
  const { lost, doubled, 'out of order': misordered } = await facts(page);
  return [lost, doubled, misordered];
}

describe('a conversation', () => {
  const lasting = new Lasting();
  let redis, one, two, door, chromium;
  before(async () => {
    ({ redis, servers: [one, two] } = await cluster(lasting));
    door = await nginx(lasting, [one, two]);
    chromium = await browser(lasting);
  });
  after(() => lasting.end());
  beforeEach(() => until(() => Promise.all([one, two].map(isReady)).then((all) => all.every(Boolean)), 'both are ready'));

  test('goes on elsewhere when its server is killed while somebody writes', async (t) => {
    const [ann, bob] = [
      await enter(await person(t, chromium), door, 'ann', { room: 'killed' }),
      await enter(await person(t, chromium), door, 'bob', { room: 'killed' }),
    ];
    await say(ann, 'before');
    await hears(bob, 'before');
    const shown = await ann.locator('#state').innerText();
    const [mine, other] = shown.endsWith(one.name) ? [one, two] : [two, one];
    await ann.locator('#draft').pressSequentially('still wri');
    await mine.kill();
    t.after(() => mine.start());
    await ann.locator('#draft').pressSequentially('ting');
    assert.equal(await ann.locator('#draft').inputValue(), 'still writing');
    await ann.locator('#draft').press('Enter');
    await hears(bob, 'still writing');
    await connected(ann, other.name);
    await ann.locator('#rows .note.back', { hasText: `on ${other.name}` }).waitFor();
    await hears(ann, 'still writing');
    await allKept(ann);
    for (const page of [ann, bob]) {
      assert.deepEqual(await texts(page), ['before', 'still writing']);
      assert.deepEqual(await damage(page), NONE);
    }
  });

  test('notices nothing but the servers’ names when both are replaced while somebody talks', async (t) => {
    const [ann, bob] = [
      await enter(await person(t, chromium), one, 'ann', { room: 'rolling' }),
      await enter(await person(t, chromium), two, 'bob', { room: 'rolling' }),
    ];
    let count = 0;
    let talks = true;
    const talking = (async () => {
      while (talks) {
        await say(ann, `word ${++count}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    })();
    for (const server of [one, two]) {
      await until(() => count % 10 === 0, 'somebody talks');
      await server.drain();
      await server.start();
      await connected(server === one ? ann : bob, server.name);
    }
    talks = false;
    await talking;
    await allKept(ann);
    await hears(bob, `word ${count}`);
    const all = Array.from({ length: count }, (_, index) => `word ${index + 1}`);
    for (const page of [ann, bob]) {
      assert.deepEqual(await texts(page), all);
      assert.deepEqual(await damage(page), NONE);
      assert.match(await page.locator('.note.back').last().innerText(), /^Back .*, 0 lost\.$/);
    }
  });

  test('can be cut by a button, which shows what was missed', async (t) => {
    const [ann, bob] = [
      await enter(await person(t, chromium), one, 'ann', { room: 'lobby' }),
      await enter(await person(t, chromium), two, 'bob', { room: 'lobby' }),
    ];
    await say(ann, 'The notes are at https://example.com/notes (a draft).');
    await say(ann, 'Is anything missing?');
    await say(bob, '“Exactly once” deserves a line of its own.');
    await hears(ann, '“Exactly once” deserves a line of its own.');
    await ann.getByRole('button', { name: 'Cut' }).click();
    await ann.locator('#rows .note', { hasText: 'You cut your connection.' }).waitFor();
    await ann.locator('#state[data-is=waiting], #state[data-is=connecting]').waitFor();
    await say(ann, 'I am here again, and missed nothing.');
    await ann.getByText('Waits for the connection').waitFor();
    for (const text of ['Are you still there?', 'You dropped off.', 'Never mind, it will be there when you are back.']) {
      await say(bob, text);
      await hears(bob, text);
    }
    await ann.locator('#rows .note', { hasText: /^Back after [34]\.\d s, on server-1: 3 messages were missed and have come, 0 lost\.$/ }).waitFor();
    await hears(bob, 'I am here again, and missed nothing.');
    await allKept(ann);
    assert.equal(await ann.locator('#rows .missed').count(), 3);
    assert.deepEqual((await texts(ann)).slice(-4), [
      'Are you still there?',
      'You dropped off.',
      'Never mind, it will be there when you are back.',
      'I am here again, and missed nothing.',
    ]);
    await picture(ann, 'page-cut');
    assert.deepEqual(await damage(ann), NONE);
    assert.deepEqual(await texts(ann), await texts(bob));
    await ann.locator('#cut[aria-disabled=false]').waitFor();
  });

  test('waits while the browser is offline', async (t) => {
    const context = await person(t, chromium);
    const ann = await enter(context, one, 'ann', { room: 'offline' });
    await context.setOffline(true);
    // What is open stays open in an emulated absence.
    await ann.getByRole('button', { name: 'Cut' }).click();
    await ann.locator('#state', { hasText: 'You are offline' }).waitFor();
    await say(ann, 'said offline');
    await ann.getByText('Waits for the connection').waitFor();
    await isAccessible(ann, 'a page that is offline');
    await context.setOffline(false);
    await connected(ann);
    await hears(ann, 'said offline');
    await allKept(ann);
  });

  test('shows a gap as a gap', async (t) => {
    const ann = await enter(await person(t, chromium), one, 'ann', { room: 'gap' });
    await say(ann, 'before');
    await hears(ann, 'before');
    await redis.command('FLUSHALL');
    await ann.locator('#rows .gap', { hasText: 'Redis lost the room’s log' }).waitFor({ timeout: 30_000 });
    await say(ann, 'after');
    await hears(ann, 'after');
    assert.deepEqual(await texts(ann), ['before', 'after']);
  });

  test('does not say that nothing was lost when nobody can know', async (t) => {
    const ann = await enter(await person(t, chromium), one, 'ann', { room: 'unsized' });
    await say(ann, 'before');
    await hears(ann, 'before');
    await ann.getByRole('button', { name: 'Cut' }).click();
    await redis.command('FLUSHALL');
    await ann.locator('#rows .note.back', { hasText: /^Back after .*, on server-1: what was said meanwhile may be lost\.$/ }).waitFor();
    assert.equal((await facts(ann)).lost, 'unknown');
  });

  test('says of a server that keeps nothing that what was missed is lost', async (t) => {
    const { servers } = await cluster(t, { ROOMCAST_HISTORY_LENGTH: '0' });
    const [ann, bob] = [
      await enter(await person(t, chromium), servers[0], 'ann', { room: 'nothing-kept' }),
      await enter(await person(t, chromium), servers[1], 'bob', { room: 'nothing-kept' }),
    ];
    await say(bob, 'heard');
    await hears(ann, 'heard');
    await ann.getByRole('button', { name: 'Cut' }).click();
    await ann.locator('#rows .note', { hasText: 'You cut your connection.' }).waitFor();
    for (const text of ['said to nobody', 'and once more']) {
      await say(bob, text);
      await hears(bob, text);
    }
    const note = await ann.locator('#rows .note.back').innerText();
    assert.match(note, /: this server keeps nothing, so what was said meanwhile is lost to you, and nobody can count it\.$/);
    assert.deepEqual(await damage(ann), ['unknown', 'unknown', 'unknown']);
  });

  test('keeps what was said while Redis is away', async (t) => {
    const ann = await enter(await person(t, chromium), one, 'ann', { room: 'redis' });
    await redis.kill();
    await say(ann, 'without Redis');
    await ann.getByText(/Sending|Waits/).waitFor();
    await redis.start();
    await hears(ann, 'without Redis');
    await allKept(ann);
  });

  test('says what could not be sent and why, also after a reload, and can try again', async (t) => {
    const context = await person(t, chromium);
    const { servers: [small] } = await cluster(t, { ROOMCAST_MAX_TEXT_BYTES: '100' });
    const ann = await enter(context, small, 'ann', { room: 'failed' });
    const text = 'word '.repeat(30).trim();
    await say(ann, text);
    await ann.getByText('Not sent. This message is too long: it must have at most 100 bytes, not 149.').waitFor();
    await ann.reload();
    await connected(ann);
    await ann.getByText('Not sent. This message is too long: it must have at most 100 bytes, not 149.').waitFor();
    await ann.getByRole('button', { name: 'Try again' }).click();
    await until(async () => (await ann.locator('#unsent .failed').count()) === 1, 'it fails again');
    await small.kill();
    small.env.ROOMCAST_MAX_TEXT_BYTES = '1000';
    await small.start();
    await connected(ann);
    await ann.getByRole('button', { name: 'Try again' }).click();
    await hears(ann, text);
    assert.equal(await ann.locator('#unsent li').count(), 0);
    await say(ann, 'x'.repeat(2000));
    await ann.getByRole('button', { name: 'Remove' }).click();
    await until(async () => (await ann.locator('#unsent li').count()) === 0, 'it is gone');
    await ann.reload();
    await connected(ann);
    assert.equal(await ann.locator('#unsent li').count(), 0);
  });

  test('sends after a reload what was not sent before it, once', async (t) => {
    const context = await person(t, chromium);
    const bob = await enter(await person(t, chromium), two, 'bob', { room: 'outlives' });
    const ann = await enter(context, door, 'ann', { room: 'outlives' });
    await ann.getByRole('button', { name: 'Cut' }).click();
    for (const text of ['one', 'two', 'three']) await say(ann, text);
    await ann.getByText('Waits for the connection').first().waitFor();
    await ann.reload();
    await connected(ann);
    for (const page of [ann, bob]) {
      for (const text of ['one', 'two', 'three']) await hears(page, text);
      assert.deepEqual(await texts(page), ['one', 'two', 'three']);
    }
    await allKept(ann);
  });

  test('does not call a connection lost that there never was', async (t) => {
    const full = await Server.start(t, { ROOMCAST_MAX_CONNECTIONS: '1' });
    const ann = await enter(await person(t, chromium), full, 'ann');
    const bob = await enter(await person(t, chromium), full, 'bob', { isIn: false });
    await bob.locator('#state', { hasText: /^Cannot connect: the server is away or full; trying again( in \d+ s)?$/ }).waitFor();
    await ann.getByRole('button', { name: 'Leave' }).click();
    await connected(bob);
    await full.kill();
    await bob.locator('#state', { hasText: 'Connection lost' }).waitFor();
  });

  test('says in words that it cannot go on', async (t) => {
    const ann = await enter(await person(t, chromium), one, 'ann', { room: 'closed' });
    await ann.evaluate(() => {
      const { send } = WebSocket.prototype;
      // A frame that the server takes for an error of the client.
      WebSocket.prototype.send = function () {
        send.call(this, new Uint8Array([1]));
      };
    });
    await say(ann, 'never heard');
    await ann.locator('#state[data-is=closed]', { hasText: /^Closed: .+; .+/ }).waitFor();
    await isAccessible(ann, 'a closed client');
    await ann.getByRole('button', { name: 'Connect again' }).click();
    await connected(ann);
    await hears(ann, 'never heard');
  });
});

function isReady({ port }) {
  return fetch(`http://127.0.0.1:${port}/readyz`).then(({ ok }) => ok, () => false);
}
