// What the page looks like, to whom, and that no text makes anything else of it.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import {
  Lasting, allKept, browser, cluster, connected, enter, facts, hears, isAccessible, person, picture, publish as publishOn, say, texts, until,
} from './support/stage.js';

const PHONE = { viewport: { width: 360, height: 720 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };

describe('the page', () => {
  const lasting = new Lasting();
  let redis, one, two, chromium;
  before(async () => {
    ({ redis, servers: [one, two] } = await cluster(lasting));
    chromium = await browser(lasting);
  });
  after(() => lasting.end());

  /** Says something as another server, one of another kind, might. */
  function publish(room, message) {
    return publishOn(redis, `ws:room:${room}`, JSON.stringify({ originServer: 'legacy-1', type: 'message', room, ...message }));
  }

  test('can be used by everybody, in each of its states', async (t) => {
    const context = await person(t, chromium);
    const page = await context.newPage();
    const at = `http://127.0.0.1:${one.port}/`;
    await page.goto(at);
    await page.getByLabel('Room').waitFor();
    await isAccessible(page, 'the door');
    await page.getByLabel('Room').fill('no room');
    await page.getByRole('button', { name: 'Join' }).click();
    await isAccessible(page, 'the door with a problem');
    await page.goto(`${at}?room=access&name=ann`);
    await connected(page);
    await page.getByText('Nothing has been said here yet').waitFor();
    await isAccessible(page, 'an empty room');
    await say(page, 'hello, see https://example.com');
    await hears(page, 'hello, see https://example.com');
    await publish('access', { username: 'legacy', text: 'from elsewhere' });
    await hears(page, 'from elsewhere');
    await say(page, 'x'.repeat(20_000));
    await page.getByText(/^Not sent/).waitFor();
    await page.getByRole('button', { name: 'Details' }).click();
    await isAccessible(page, 'a room with details and a failed message');
    await page.getByRole('button', { name: 'Cut' }).click();
    await page.locator('#rows .note', { hasText: 'You cut your connection.' }).waitFor();
    await say(page, 'waiting');
    await page.getByText('Waits for the connection').waitFor();
    await isAccessible(page, 'a cut connection');
    await page.locator('#rows .note', { hasText: /^Back after/ }).waitFor();
    await isAccessible(page, 'a room after a cut');
  });

  test('can be used with the keyboard alone', async (t) => {
    const context = await person(t, chromium);
    const page = await context.newPage();
    await page.goto(`http://127.0.0.1:${one.port}/`);
    const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim());
    const press = async (...keys) => {
      for (const key of keys) await page.keyboard.press(key);
    };
    await until(async () => (await focused()) === 'room-field', 'the first field has the focus');
    await page.keyboard.type('keys');
    await press('Tab');
    assert.equal(await focused(), 'name-field');
    await press('ControlOrMeta+a');
    await page.keyboard.type('ann');
    await press('Enter');
    await connected(page);
    assert.equal(await focused(), 'draft');
    await page.keyboard.type('line one');
    await press('Shift+Enter');
    await page.keyboard.type('line two');
    await press('Enter');
    await page.getByText('line one\nline two').waitFor();
    assert.equal(await focused(), 'draft', 'the next message can be typed at once');
    const reached = [];
    for (let step = 0; step < 12; step++) {
      await press('Shift+Tab');
      reached.push(await focused());
    }
    for (const id of ['scroll', 'leave', 'share', 'details', 'cut']) assert.ok(reached.includes(id), `${id} of ${reached}`);
    // What has the focus shows it.
    await page.locator('#details').focus();
    await press('Shift+Tab', 'Tab');
    assert.equal(await page.locator('#details').evaluate((it) => getComputedStyle(it).outlineStyle), 'solid');
    await press('Enter');
    await page.locator('#facts').waitFor();
    await press('Shift+Tab');
    assert.equal(await focused(), 'cut');
    await press('Space');
    await page.locator('#rows .note', { hasText: 'You cut your connection.' }).waitFor();
    await page.locator('#rows .note', { hasText: /^Back after/ }).waitFor();
    assert.equal(await focused(), 'cut');
    // Whoever hears the page is told what happened, once, and not each second.
    await page.locator('#said', { hasText: 'Connected to server-1' }).or(page.locator('#said', { hasText: 'Back after' })).waitFor();
  });

  test('tells those who hear it what changed, and not each second', async (t) => {
    const ann = await enter(await person(t, chromium), one, 'ann', { room: 'heard' });
    await ann.locator('#said', { hasText: 'Connected' }).waitFor();
    await ann.evaluate(() => {
      globalThis.heard = [];
      const said = document.getElementById('said');
      new MutationObserver(() => heard.push(said.textContent)).observe(said, { childList: true, characterData: true, subtree: true });
    });
    await ann.getByRole('button', { name: 'Cut' }).click();
    await ann.locator('#rows .note', { hasText: /^Back after/ }).waitFor();
    await until(() => ann.evaluate(() => heard.some((text) => text.startsWith('Back after'))), 'the return is read out');
    const heard = await ann.evaluate(() => globalThis.heard.filter(Boolean));
    assert.ok(heard[0].startsWith('Connection lost'), heard.join(' | '));
    assert.ok(heard.length <= 4, heard.join(' | '));
    assert.equal(await ann.locator('[aria-live], [role=status], [role=log], [role=alert]:visible').count(), 2);
  });

  test('fits on a phone', async (t) => {
    const bob = await enter(await person(t, chromium), two, 'bob', { room: 'phone' });
    const ann = await enter(await person(t, chromium, PHONE), one, 'Ann with a name that is quite long for a phone 🌻', { room: 'phone' });
    await say(ann, 'Are the notes ready? https://example.com/a/very/long/address/that/has/no/place/to/break/in/it/at/all');
    await hears(bob, 'Are the notes ready? https://example.com/a/very/long/address/that/has/no/place/to/break/in/it/at/all');
    await say(bob, 'Nearly. '.repeat(30).trim());
    await say(bob, 'w'.repeat(300));
    await hears(ann, 'w'.repeat(300));
    await ann.getByRole('button', { name: 'Cut my connection' }).waitFor();
    await ann.getByRole('button', { name: 'Details' }).tap();
    for (const view of ['a room', 'the door']) {
      const { width, wide } = await ann.evaluate(() => ({
        width: document.scrollingElement.scrollWidth,
        wide: [document.scrollingElement, ...document.querySelectorAll('body *')]
          .filter((it) => it.checkVisibility() && !it.closest('.unseen, .head, .place') && it.getBoundingClientRect().right > innerWidth + 1)
          .map((it) => it.outerHTML.slice(0, 80)),
      }));
      assert.deepEqual([wide, width], [[], 360], view);
      const small = await ann.evaluate(() => [...document.querySelectorAll('button, input, textarea')]
        .filter((it) => it.checkVisibility() && it.getBoundingClientRect().height < 44)
        .map((it) => it.outerHTML.slice(0, 80)));
      assert.deepEqual(small, [], `${view} has what fingers cannot touch`);
      await isAccessible(ann, `${view} on a phone`);
      if (view === 'a room') await ann.getByRole('button', { name: 'Leave' }).tap();
    }
  });

  test('shows texts as they are, and makes nothing of them', async (t) => {
    const [ann, bob] = [
      await enter(await person(t, chromium), one, 'ann', { room: 'hostile' }),
      await enter(await person(t, chromium), two, '<b>bob</b>', { room: 'hostile' }),
    ];
    const hostile = [
      '<script>alert(1)</script>',
      '<img src=x onerror="document.title=\'owned\'">',
      '&lt;b&gt; &amp; <b>bold</b> <style>*{display:none}</style>',
      'javascript:alert(1) data:text/html,<script>alert(1)</script>',
      '</li></ol><h1>big</h1>',
      'a\u0000b\u0007c',
      '${1+1} {{1+1}}',
    ];
    await bob.evaluate(() => (globalThis.alert = () => reportFault('a text was run')));
    await ann.evaluate(() => (globalThis.alert = () => reportFault('a text was run')));
    for (const text of hostile) {
      await bob.evaluate((text) => {
        document.getElementById('draft').value = text;
        document.getElementById('composer').requestSubmit();
      }, text);
    }
    await until(async () => (await ann.locator('#rows .message').count()) === hostile.length, 'all are there');
    const shown = await ann.locator('#rows .message .text').evaluateAll((all) => all.map((it) => it.textContent));
    assert.deepEqual(shown, hostile);
    assert.equal(await ann.locator('#rows .message .text *').count(), 0, 'nothing but text');
    assert.equal(await ann.locator('#rows .name').first().innerText(), '<b>bob</b>');
    assert.equal(await ann.title(), 'hostile · roomcast');

    // What servers of another kind let through: names and texts that turn direction, or that are none.
    await publish('hostile', { username: '\u202eeve\nann 12:00', text: '\u202eright to left\u2066 https://example.com/\u202egpj.exe' });
    await publish('hostile', { username: 'x'.repeat(3000), text: 'Z\u0335\u0321\u0322\u0323'.repeat(200) });
    await publish('hostile', { text: { nested: ['<b>'] }, ts: 'never', originServer: '\u202e<i>' });
    await publish('hostile', { username: null, text: null });
    await until(async () => (await ann.locator('#rows .message').count()) === hostile.length + 4, 'they are shown');
    const rows = await ann.locator('#rows .message').evaluateAll((all) => all.slice(-4).map((row) => {
      const [box, name] = [row.getBoundingClientRect(), row.querySelector('.name')];
      return {
        isIsolated: getComputedStyle(name).unicodeBidi.includes('isolate') && getComputedStyle(row.querySelector('.text')).unicodeBidi.includes('isolate'),
        clips: getComputedStyle(row).contain.includes('paint'),
        fits: box.right <= innerWidth && name.getBoundingClientRect().right <= box.right,
        links: [...row.querySelectorAll('a')].map((link) => link.href),
      };
    }));
    for (const row of rows) assert.deepEqual([row.isIsolated, row.clips, row.fits], [true, true, true]);
    assert.deepEqual(rows[0].links, ['https://example.com/']);
    await say(ann, 'all is well');
    await hears(ann, 'all is well');
  });

  test('recognises addresses, and only those', async (t) => {
    const context = await person(t, chromium);
    const page = await context.newPage();
    await page.goto(`http://127.0.0.1:${one.port}/`);
    const cases = [
      ['see https://example.com.', ['https://example.com']],
      ['(https://en.wikipedia.org/wiki/Foo_(bar))', ['https://en.wikipedia.org/wiki/Foo_(bar)']],
      ['“http://example.com/?a=1&b=2#c”, and HTTPS://EXAMPLE.COM/x!', ['http://example.com/?a=1&b=2#c', 'HTTPS://EXAMPLE.COM/x']],
      ['http://[::1]:8080/x', ['http://[::1]:8080/x']],
      ['https://example.com/日本語?ü', ['https://example.com/日本語?ü']],
      ['javascript:alert(1) ftp://example.com file:///etc/passwd data:text/html,x', []],
      ['https://good.example@evil.example/', []],
      ['https:// http:/// https://.', []],
      ['xhttps://example.com _http://example.com', []],
      ['https://example.com/\u202egpj.exe', ['https://example.com/']],
      ['https://example.com/<script>', ['https://example.com/']],
      ['https://example.com"onclick=x', ['https://example.com']],
      ['https://example.com\nhttps://example.org', ['https://example.com', 'https://example.org']],
      [`https://example.com/${'a'.repeat(3000)}`, []],
    ];
    const find = (text) => page.evaluate(async (text) => (await import('/links.js')).pieces(text), text);
    for (const [text, links] of cases) {
      const pieces = await find(text);
      assert.equal(pieces.map((piece) => piece.text).join(''), text, 'no letter is lost');
      assert.deepEqual(pieces.filter((piece) => piece.href).map((piece) => piece.text), links, text);
      for (const { href } of pieces) if (href) assert.match(href, /^https?:\/\//);
    }
    // A host that can be taken for another is named as it is.
    const [lookalike] = await find('https://\u0430pple.com/');
    assert.equal(lookalike.host, 'xn--pple-43d.com');
    const [number] = await find('http://2130706433/');
    assert.equal(number.host, '127.0.0.1');
    assert.equal((await find('http://a.b '.repeat(1000))).filter((piece) => piece.href).length, 50);

    await page.goto(`http://127.0.0.1:${one.port}/?room=links&name=ann`);
    await connected(page);
    await say(page, 'https://\u0430pple.com/');
    const link = page.locator('#rows a');
    await link.waitFor();
    assert.equal(await link.getAttribute('rel'), 'noopener noreferrer nofollow');
    assert.equal(await link.getAttribute('target'), '_blank');
    await page.getByText('leads to xn--pple-43d.com').waitFor();
  });

  test('stays small with long texts and many rooms', async (t) => {
    const context = await person(t, chromium);
    const ann = await enter(context, one, 'ann', { room: 'heavy' });
    const long = 'word https://example.com/x '.repeat(590).slice(0, 15_900);
    await ann.evaluate((long) => {
      const [draft, composer] = [document.getElementById('draft'), document.getElementById('composer')];
      for (let number = 0; number < 60; number++) {
        draft.value = `${number} ${long}`;
        composer.requestSubmit();
      }
    }, long);
    await allKept(ann);
    // By its text alone: a row holds the time too, and "20:55" before "9 word" reads like "59 word".
    await ann.locator('#rows .text').filter({ hasText: /^59 word/ }).waitFor();
    const last = ann.locator('#rows .message').last();
    await last.getByRole('button', { name: /^Show all/ }).click();
    assert.equal((await last.locator('.text').innerText()).length, long.trimEnd().length + 3);
    for (let number = 0; number < 100; number++) await publish('heavy', { username: `u${number}`, text: 'x'.repeat(5000) });
    // Whoever reads at the top is not taken to the end, and gets there by the button.
    await ann.locator('#scroll').evaluate((scroll) => (scroll.scrollTop = 0));
    await ann.getByRole('button', { name: /To the newest|new message/ }).click();
    await ann.locator('#rows .message').last().getByText('xxxxx').waitFor();
    const nodes = await ann.evaluate(() => document.querySelectorAll('*').length);
    assert.ok(nodes < 6000, `${nodes} elements`);
    // A hundred rooms, one after the other, leave nothing behind.
    await ann.evaluate(async () => {
      for (let number = 0; number < 100; number++) {
        history.pushState(null, '', `?room=room-${number}&name=ann`);
        dispatchEvent(new PopStateEvent('popstate'));
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    });
    await connected(ann);
    assert.equal(await ann.locator('#room-name').innerText(), 'room-99');
    await say(ann, 'the only one');
    await hears(ann, 'the only one');
    assert.equal((await facts(ann)).received, '1');
  });

  const pictures = process.env.SCREENSHOTS ? test : () => {};
  pictures('looks like this', async (t) => {
    const words = [
      ['ann', 'Morning! The release notes are up: https://example.com/notes'],
      ['ann', 'Is anything missing?'],
      ['bob', 'Reading them now. “Exactly once” deserves a line of its own.'],
      ['ann', 'Agreed, on it.'],
      ['cleo', 'And a picture of the page, light and dark?'],
      ['bob', 'You are looking at it.'],
    ];
    const people = {
      ann: await enter(await person(t, chromium), one, 'ann'),
      bob: await enter(await person(t, chromium), two, 'bob'),
      cleo: await enter(await person(t, chromium, { viewport: { width: 390, height: 780 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 }), two, 'cleo'),
    };
    for (const [name, text] of words) {
      await say(people[name], text);
      for (const page of Object.values(people)) await hears(page, text);
    }
    await picture(people.ann, 'page-light');
    await picture(people.cleo, 'page-phone');
    await people.bob.emulateMedia({ colorScheme: 'dark' });
    await people.bob.getByRole('button', { name: 'Details' }).click();
    await people.bob.locator('#draft').focus();
    await picture(people.bob, 'page-dark');
    assert.equal((await texts(people.ann)).length, words.length);
  });
});
