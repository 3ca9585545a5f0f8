// Talking, over two servers and nginx.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Lasting, Server, allKept, browser, cluster, connected, enter, facts, hears, nginx, person, say, texts, until } from './support/stage.js';

describe('a conversation', () => {
  const lasting = new Lasting();
  let one, two, door, chromium;
  before(async () => {
    const { servers } = await cluster(lasting);
    [one, two] = servers;
    door = await nginx(lasting, servers);
    chromium = await browser(lasting);
  });
  after(() => lasting.end());

  test('reaches others on another server, and says which took what', async (t) => {
    const [ann, bob] = [await enter(await person(t, chromium), one, 'ann'), await enter(await person(t, chromium), two, 'bob')];
    await connected(ann, 'server-1');
    await connected(bob, 'server-2');
    await say(ann, 'hello bob');
    for (const page of [ann, bob]) await hears(page, 'hello bob');
    await say(bob, 'hello ann');
    for (const page of [ann, bob]) {
      await hears(page, 'hello ann');
      assert.deepEqual(await page.locator('#rows .name').allInnerTexts(), ['ann', 'bob']);
      assert.deepEqual(await page.locator('#rows .server').allInnerTexts(), ['server-1', 'server-2']);
    }
    // Only who said it sees that it is kept; everybody sees its number on demand.
    assert.equal(await ann.locator('#rows .own').count(), 1);
    assert.match(await ann.locator('#rows .own .kept').innerText(), /#1$/);
    assert.equal(await bob.locator('.detail', { hasText: '#1' }).isVisible(), false);
    await bob.locator('#details').click();
    await bob.locator('.detail', { hasText: '#1' }).waitFor();
  });

  test('is there again after a reload, through nginx', async (t) => {
    const context = await person(t, chromium);
    const ann = await enter(context, door, 'ann', { room: 'reload' });
    await say(ann, 'before');
    await hears(ann, 'before');
    await ann.locator('#draft').fill('half a sen');
    await ann.reload();
    await connected(ann);
    await hears(ann, 'before');
    assert.equal(await ann.locator('#draft').inputValue(), 'half a sen', 'what was being written is there too');
    assert.equal(await ann.locator('#rows .own').count(), 1, 'one’s own messages are known again');
    await say(ann, 'after');
    await hears(ann, 'after');
    assert.deepEqual(await texts(ann), ['before', 'after']);
  });

  test('keeps 500 quick messages in order', async (t) => {
    const [ann, bob] = [
      await enter(await person(t, chromium), one, 'ann', { room: 'quick' }),
      await enter(await person(t, chromium), two, 'bob', { room: 'quick' }),
    ];
    await ann.evaluate(() => {
      const [draft, composer] = [document.getElementById('draft'), document.getElementById('composer')];
      for (let number = 1; number <= 500; number++) {
        draft.value = `message ${number}`;
        composer.requestSubmit();
      }
    });
    for (const page of [ann, bob]) {
      await page.getByText('message 500', { exact: true }).waitFor({ timeout: 30_000 });
      await allKept(page);
      const shown = await texts(page);
      assert.deepEqual(shown, Array.from(shown, (_, index) => `message ${501 - shown.length + index}`));
      assert.ok(shown.length <= 400, 'the page keeps at most this many rows');
      const { received, lost, doubled, 'out of order': misordered } = await facts(page);
      assert.deepEqual([received, lost, doubled, misordered], ['500', '0', '0', '0']);
    }
  });

  test('can be read from its beginning, and stays where its reader is', async (t) => {
    const [ann, bob] = [
      await enter(await person(t, chromium), one, 'ann', { room: 'long' }),
      await enter(await person(t, chromium), two, 'bob', { room: 'long' }),
    ];
    await ann.evaluate(() => {
      const [draft, composer] = [document.getElementById('draft'), document.getElementById('composer')];
      for (let number = 1; number <= 250; number++) {
        draft.value = `line ${number}`;
        composer.requestSubmit();
      }
    });
    await hears(bob, 'line 250');
    const cleo = await enter(await person(t, chromium), door, 'cleo', { room: 'long' });
    await hears(cleo, 'line 250');
    assert.equal((await texts(cleo))[0], 'line 151');
    for (const [topmost, first] of [['line 151', 'line 51'], ['line 51', 'line 1']]) {
      await cleo.locator('#scroll').evaluate((scroll) => (scroll.scrollTop = 0));
      const place = async () => (await cleo.getByText(topmost, { exact: true }).boundingBox()).y;
      const before = await place();
      await cleo.locator('#earlier').click();
      await until(async () => (await texts(cleo))[0] === first, `${first} is first`);
      const moved = Math.abs((await place()) - before);
      // The name above it goes when others stand before it, and the text stays within its row.
      assert.ok(moved < 40, `what was being read has moved by ${moved}`);
    }
    const shown = await texts(cleo);
    assert.deepEqual(shown, Array.from({ length: 250 }, (_, index) => `line ${index + 1}`));
    assert.equal(await cleo.locator('#earlier').isHidden(), true);
    await cleo.getByText('This is where the conversation begins.').waitFor();

    // What is said meanwhile does not move the reader.
    const place = () => cleo.locator('#scroll').evaluate((scroll) => scroll.scrollTop);
    const before = await place();
    for (const text of ['news 1', 'news 2', 'news 3']) await say(bob, text);
    await cleo.getByRole('button', { name: '3 new messages' }).waitFor();
    assert.equal(await place(), before);
    await cleo.getByRole('button', { name: '3 new messages' }).click();
    await cleo.getByText('news 3').waitFor();
    await until(async () => cleo.locator('#newest').isHidden(), 'the reader is at the end');
    assert.ok(await cleo.getByText('news 3').isVisible());
  });

  test('says where the room’s log ends', async (t) => {
    const { servers } = await cluster(t, { ROOMCAST_HISTORY_LENGTH: '120' });
    const ann = await enter(await person(t, chromium), servers[0], 'ann', { room: 'short' });
    await ann.evaluate(() => {
      const [draft, composer] = [document.getElementById('draft'), document.getElementById('composer')];
      for (let number = 1; number <= 600; number++) {
        draft.value = `line ${number}`;
        composer.requestSubmit();
      }
    });
    await ann.getByText('line 600', { exact: true }).waitFor({ timeout: 30_000 });
    await allKept(ann);
    const bob = await enter(await person(t, chromium), servers[1], 'bob', { room: 'short' });
    await hears(bob, 'line 600');
    for (let clicks = 0; clicks < 5 && !(await bob.locator('#beginning').isVisible()); clicks++) {
      const first = (await texts(bob))[0];
      await bob.locator('#earlier').click();
      await until(async () => (await texts(bob))[0] !== first || bob.locator('#beginning').isVisible(), 'something came');
      await bob.locator('#earlier[aria-disabled=true]').waitFor({ state: 'detached' });
    }
    await bob.getByText('This is all there is').waitFor();
    assert.ok((await texts(bob)).length >= 120);
  });

  test('keeps two tabs of one profile apart', async (t) => {
    const context = await person(t, chromium);
    const [first, second] = [await enter(context, one, 'ann', { room: 'tabs' }), await enter(context, two, 'ann', { room: 'tabs' })];
    await Promise.all([say(first, 'from the first'), say(second, 'from the second')]);
    for (const page of [first, second]) {
      await hears(page, 'from the first');
      await hears(page, 'from the second');
      assert.equal(await page.locator('#rows .own').count(), 1, 'each knows its own');
    }
    for (const page of [first, second]) {
      await page.reload();
      await connected(page);
      await hears(page, 'from the first');
      await hears(page, 'from the second');
    }
  });

  test('is entered by the door, whose link names nobody', async (t) => {
    const context = await person(t, chromium);
    const page = await context.newPage();
    await page.goto(`http://127.0.0.1:${door.port}/`);
    assert.equal(await page.getByLabel('Room').inputValue(), 'lobby');
    assert.notEqual(await page.getByLabel('Your name').inputValue(), '');
    await page.getByLabel('Room').fill('my room');
    await page.getByRole('button', { name: 'Join' }).click();
    await page.getByText('cannot have a blank in it').waitFor();
    assert.equal(await page.getByLabel('Room').getAttribute('aria-invalid'), 'true');
    await page.getByLabel('Room').fill('myroom');
    await page.getByLabel('Your name').fill(' ');
    await page.getByRole('button', { name: 'Join' }).click();
    await page.getByText('By which name').waitFor();
    // What only the server knows to be wrong.
    await page.getByLabel('Your name').fill('an\u202en');
    await page.getByRole('button', { name: 'Join' }).click();
    await page.locator('#name-problem', { hasText: /^A name must not have characters that cannot be seen/ }).waitFor();
    assert.equal(await page.getByLabel('Your name').getAttribute('aria-invalid'), 'true');
    await page.getByLabel('Your name').fill('Ann B. 🌻');
    await page.getByRole('button', { name: 'Join' }).click();
    await connected(page);
    assert.equal(new URL(page.url()).searchParams.get('name'), 'Ann B. 🌻');
    await context.grantPermissions(['clipboard-read', 'clipboard-write']);
    await page.getByRole('button', { name: 'Copy link' }).click();
    await page.getByRole('button', { name: 'Copied' }).waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `http://127.0.0.1:${door.port}/?room=myroom`);
    await page.getByRole('button', { name: 'Leave' }).click();
    await page.getByLabel('Your name').waitFor();
    assert.equal(await page.getByLabel('Your name').inputValue(), 'Ann B. 🌻');
    await page.goBack();
    await connected(page);
  });

  test('says that a room’s name is too long for the server, and lets one choose another', async (t) => {
    const strict = await Server.start(t, { ROOMCAST_MAX_ROOM_LENGTH: '3' });
    const page = await enter(await person(t, chromium), strict, 'ann', { room: 'lobby', isIn: false });
    await page.locator('#room-problem', { hasText: /^A room’s name must have at most 3 characters\.$/ }).waitFor();
    assert.equal(await page.getByLabel('Room').getAttribute('aria-invalid'), 'true');
    assert.equal(await page.getByLabel('Your name').inputValue(), 'ann');
    await page.getByLabel('Room').fill('den');
    await page.getByRole('button', { name: 'Join' }).click();
    await connected(page);
    await say(page, 'here');
    await hears(page, 'here');
  });
});
