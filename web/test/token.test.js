// Tokens on the page: given in its address, or typed at the door, and refused in the server's words.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { ALL, KEYED, token } from '../../clients/js/test/support/tokens.js';
import { Lasting, Server, browser, connected, enter, hears, isAccessible, person, say, texts, until } from './support/stage.js';

describe('a server that has keys', () => {
  const lasting = new Lasting();
  let server, chromium, at;
  before(async () => {
    server = await Server.start(lasting, KEYED);
    at = `http://127.0.0.1:${server.port}/`;
    chromium = await browser(lasting);
  });
  after(() => lasting.end());

  const stored = (page) => page.evaluate(() => [sessionStorage.getItem('roomcast.token'), JSON.stringify(localStorage)]);

  test('asks for a token at the door, and says what is wrong with one', async (t) => {
    const page = await enter(await person(t, chromium), server, 'guest', { isIn: false });
    const [field, problem] = [page.getByLabel('Your token'), page.locator('#token-problem')];
    await problem.getByText('This server wants to know who you are').waitFor();
    await isAccessible(page, 'the door that asks for a token');
    assert.equal(await page.getByText('Nobody checks who you are').isVisible(), false);
    for (const [given, said] of [
      ['not a token', /^A token has only letters/],
      ['hello', /^This is not a JSON Web Token/],
      [token('ann', ALL, { secret: 'another secret, which the server does not know' }), /^The token's signature is not of a key of this server\.$/],
      [token('ann', ALL, { lasts: -60 }), /^The token ended 6\d s ago\.$/],
    ]) {
      await field.fill(given);
      await page.getByRole('button', { name: 'Join' }).click();
      await problem.getByText(said).waitFor();
      assert.equal(await field.getAttribute('aria-invalid'), 'true');
      assert.equal(await field.inputValue(), given.includes(' ') ? given : '', 'a refused token is forgotten');
    }
    await field.fill(token('ann'));
    assert.equal(await page.getByLabel('Your name').inputValue(), 'ann');
    assert.equal(await page.getByLabel('Your name').isEditable(), false);
    await page.getByRole('button', { name: 'Join' }).click();
    await connected(page);
    await say(page, 'hello');
    await hears(page, 'hello');
    assert.deepEqual(await page.locator('#rows .name').allInnerTexts(), ['ann']);
    assert.equal(new URL(page.url()).search, '?room=lobby&name=ann');
  });

  test('takes one from the address, which nobody sees there or sends on', async (t) => {
    const context = await person(t, chromium);
    const page = await context.newPage();
    const requested = [];
    page.on('request', (request) => requested.push(request.url()));
    const given = token('Zoë K.');
    await page.goto(`${at}?room=fragment#token=${given}`);
    await connected(page);
    assert.equal(page.url(), `${at}?room=fragment&name=Zo%C3%AB+K.`);
    assert.ok(requested.every((url) => !url.includes('token=')), 'no server has seen it in an address');
    const [inTab, elsewhere] = await stored(page);
    assert.ok(inTab === given && !elsewhere.includes(given), 'it is stored for this tab alone');
    await say(page, 'one');
    await hears(page, 'one');
    await page.reload();
    await connected(page);
    await hears(page, 'one');
    assert.equal(await page.locator('#rows .own').count(), 1);

    // Whoever leaves stays who they are, until they forget the token.
    await page.getByRole('button', { name: 'Leave' }).click();
    await page.getByLabel('Your token').waitFor();
    assert.equal(await page.getByLabel('Your name').inputValue(), 'Zoë K.');
    await isAccessible(page, 'the door with a token');
    await page.getByLabel('Your token').fill('');
    assert.equal(await page.getByLabel('Your name').isEditable(), true);
    await page.getByRole('button', { name: 'Join' }).click();
    await page.locator('#token-problem').getByText('This server wants to know').waitFor();
    assert.equal((await stored(page))[0], null);

    // Another one, in the same tab.
    await page.goto(`${at}?room=fragment#token=${token('bob')}`);
    await connected(page);
    assert.equal(await page.locator('#own-name').innerText(), 'bob');
    // The steps back lead to no token.
    for (let steps = 0; steps < 3; steps++) {
      await page.goBack();
      assert.ok(!page.url().includes('token='), page.url());
    }
  });

  test('says which room a token does not allow', async (t) => {
    const page = await (await person(t, chromium)).newPage();
    await page.goto(`${at}?room=secret#token=${token('ann', { rooms: { lobby: ['join', 'send', 'history'] } })}`);
    await page.locator('#room-problem').getByText('This needs the right `join`').waitFor();
    await page.getByLabel('Room').fill('lobby');
    await page.getByRole('button', { name: 'Join' }).click();
    await connected(page);
  });

  test('shows a room to those who may not read what was said before', async (t) => {
    const [context, bobs] = [await person(t, chromium), await person(t, chromium)];
    const bob = await bobs.newPage();
    await bob.goto(`${at}?room=now#token=${token('bob')}`);
    await connected(bob);
    await say(bob, 'before');
    await hears(bob, 'before');
    const page = await context.newPage();
    await page.goto(`${at}?room=now#token=${token('ann', { rooms: { now: ['join', 'send'] } })}`);
    await connected(page);
    await say(bob, 'now');
    await hears(page, 'now');
    assert.deepEqual(await texts(page), ['now']);
    assert.equal(await page.locator('#earlier').isVisible(), false);
    await page.getByRole('button', { name: 'Cut' }).click();
    await say(bob, 'meanwhile');
    await page.getByText('1 message is missing here: you may not read here what was said while you were away.').waitFor();
    await say(page, 'again');
    await hears(page, 'again');
    assert.deepEqual(await texts(page), ['now', 'again']);
  });

  test('loads earlier messages with the token, and leads to the door when it has ended', { timeout: 60_000 }, async (t) => {
    const page = await (await person(t, chromium)).newPage();
    await page.goto(`${at}?room=long#token=${token('ann', ALL, { lasts: 8 })}`);
    await connected(page);
    await page.evaluate(() => {
      const [draft, composer] = [document.getElementById('draft'), document.getElementById('composer')];
      for (let number = 1; number <= 120; number++) {
        draft.value = `line ${number}`;
        composer.requestSubmit();
      }
    });
    await hears(page, 'line 120');
    await page.reload();
    await hears(page, 'line 120');
    assert.equal((await texts(page))[0], 'line 21');
    await page.locator('#earlier').click();
    await until(async () => (await texts(page))[0] === 'line 1', 'line 1 is there');
    await page.locator('#token-problem').getByText(/^The token ended \d s ago\.$/).waitFor();
    assert.equal(await page.getByLabel('Room').inputValue(), 'long');
  });
});
