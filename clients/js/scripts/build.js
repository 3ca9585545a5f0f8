// Makes dist from src: one module for each entry, without imports but for React. What it makes is committed, so that the
// server can be built, with the page in it, where there is no Node.
//
//   node scripts/build.js            writes dist
//   node scripts/build.js --check    fails if dist is not what src makes
import { readFile, writeFile } from 'node:fs/promises';
import { build } from 'esbuild';

const root = new URL('..', import.meta.url);
const { version } = JSON.parse(await readFile(new URL('package.json', root), 'utf8'));

// What the modules of the client call each other by, and nobody outside. None of it is a name of the language's own.
const INTERNAL = [
  'ask', 'bytes', 'connected', 'deliver', 'dial', 'disconnected', 'drop', 'effect', 'emit', 'end', 'feed', 'first', 'follow',
  'given', 'heard', 'isIn', 'isOnline', 'isReading', 'kind', 'late', 'listener', 'lost', 'membership', 'network',
  'noticed', 'off', 'opened', 'phase', 'place', 'queue', 'receive', 'refuse', 'reject', 'release', 'report', 'resolve',
  'restore', 'restored', 'retryAfter', 'start', 'take', 'tell', 'tooBig', 'wake', 'wakeAt', 'wanted', 'watch',
  'wish',
];

for (const entry of ['roomcast', 'react']) {
  const { outputFiles } = await build({
    absWorkingDir: root.pathname,
    entryPoints: [`src/${entry}.js`],
    outdir: 'dist',
    bundle: true,
    minify: true,
    // Every browser since 2022 has it; nothing is made for older ones.
    target: 'es2022',
    mangleProps: entry === 'roomcast' ? new RegExp(`^(${INTERNAL.join('|')})$`) : undefined,
    format: 'esm',
    external: ['react'],
    banner: { js: `// roomcast-client ${version}, Apache-2.0` },
    write: false,
  });
  const [{ path, text }] = /** @type {import('esbuild').OutputFile[]} */ (outputFiles);
  if (!process.argv.includes('--check')) {
    await writeFile(path, text);
  } else if ((await readFile(path, 'utf8').catch(() => '')) !== text) {
    console.error(`${path} is not what src makes. Run: npm run build`);
    process.exitCode = 1;
  }
}
