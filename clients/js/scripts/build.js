// Makes dist from src: one module for each entry, without imports but for React. What it makes is committed, so that the
// server can be built, with the page in it, where there is no Node.
//
//   node scripts/build.js            writes dist
//   node scripts/build.js --check    fails if dist is not what src makes
import { readFile, writeFile } from 'node:fs/promises';
import { build } from 'esbuild';

const root = new URL('..', import.meta.url);
const { version } = JSON.parse(await readFile(new URL('package.json', root), 'utf8'));

const { outputFiles } = await build({
  absWorkingDir: root.pathname,
  entryPoints: ['src/roomcast.js', 'src/react.js'],
  outdir: 'dist',
  bundle: true,
  minify: true,
  // Every browser since 2022 has it; nothing is made for older ones.
  target: 'es2022',
  // What the modules call each other by, and nobody outside; names that no built-in class has.
  mangleProps: /^(wakeAt|phase|membership|deliver|tell|restore|follow|refuse|tooBig|receive|opened|heard|noticed|lost|shown|connected|disconnected)$/,
  format: 'esm',
  external: ['react'],
  banner: { js: `// roomcast-client ${version}, Apache-2.0` },
  write: false,
});

for (const { path, text } of outputFiles) {
  if (!process.argv.includes('--check')) {
    await writeFile(path, text);
  } else if ((await readFile(path, 'utf8').catch(() => '')) !== text) {
    console.error(`${path} is not what src makes. Run: npm run build`);
    process.exitCode = 1;
  }
}
