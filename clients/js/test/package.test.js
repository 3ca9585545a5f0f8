// What a user gets with `npm install`.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, symlink, writeFile, mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

const root = new URL('..', import.meta.url).pathname;
const run = promisify(execFile);

test('the package holds what it says, and no more', async () => {
  const { stdout } = await run('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: root });
  const said = JSON.parse(stdout);
  const { files } = Array.isArray(said) ? said[0] : Object.values(said)[0];
  assert.deepEqual(
    files.map(({ path }) => path).sort(),
    ['LICENSE', 'README.md', 'dist/react.js', 'dist/roomcast.js', 'package.json', 'react.d.ts', 'roomcast.d.ts'],
  );
});

test('it can be imported by its name, also where there is nothing of a browser', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'roomcast-js-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  await mkdir(join(dir, 'node_modules'));
  await symlink(root, join(dir, 'node_modules', 'roomcast-client'));
  await writeFile(
    join(dir, 'use.mjs'),
    `import { connect, RoomcastError } from 'roomcast-client';
     import { Worker, isMainThread } from 'node:worker_threads';
     const complaint = (url, options) => { try { connect(url, options).close(); return 'none'; } catch (error) { return error.message; } };
     class Socket { addEventListener() {} close() {} send() {} }
     console.log(JSON.stringify([typeof RoomcastError, complaint('localhost:8080', { WebSocket: Socket }),
       complaint('/ws', { WebSocket: Socket }), complaint('https://example.com/ws', { WebSocket: Socket })]));
     if (isMainThread) new Worker(new URL(import.meta.url));`,
  );
  const { stdout } = await run(process.execPath, [join(dir, 'use.mjs')]);
  const lines = stdout.trim().split('\n').map((line) => JSON.parse(line));
  assert.equal(lines.length, 2, 'once in the main thread, once in a worker');
  for (const [kind, noScheme, pathOnly, fine] of lines) {
    assert.equal(kind, 'function');
    assert.match(noScheme, /is not a URL such as wss:/);
    assert.match(pathOnly, /URL/);
    assert.equal(fine, 'none');
  }
});
