// What the client weighs, as the peers' figures in README.md were measured: minified, then gzipped.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';

const weigh = async (file) => gzipSync(await readFile(new URL(`../dist/${file}`, import.meta.url)), { level: 9 }).length;

test('the client weighs at most 9.5 KiB, and the hooks 1 KiB more', async (t) => {
  const [client, hooks] = [await weigh('roomcast.js'), await weigh('react.js')];
  t.diagnostic(`roomcast.js ${client} bytes gzipped, react.js ${hooks}`);
  assert.ok(client <= 9.5 * 1024, `roomcast.js weighs ${client} bytes`);
  assert.ok(hooks <= 1 << 10, `react.js weighs ${hooks} bytes`);
});
