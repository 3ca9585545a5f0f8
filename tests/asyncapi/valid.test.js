// docs/asyncapi.yaml is AsyncAPI, by the parser that the tools of AsyncAPI use. Whether it is true, tests/suite/asyncapi.rs says; it
// also checks the examples, which the parser does not look at.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { Parser } from '@asyncapi/parser';

const text = await readFile(new URL('../../docs/asyncapi.yaml', import.meta.url), 'utf8');

/** The document, if it is valid, and all that the parser says about it, hints included. */
async function parse(text) {
  const { document, diagnostics } = await new Parser().parse(text);
  const remarks = diagnostics.map(({ code, path, message, range }) =>
    `line ${range.start.line + 1}, ${path.join('/')}: ${message} (${code})`);
  return { document, remarks };
}

test('the document is valid, and the parser has no remark on it', async () => {
  const { document, remarks } = await parse(text);
  assert.deepEqual(remarks, []);
  const counted = ['servers', 'channels', 'operations', 'messages', 'schemas'].map((kind) =>
    `${kind === 'schemas' ? document.components().schemas().all().length : document[kind]().all().length} ${kind}`);
  console.log(`docs/asyncapi.yaml: AsyncAPI ${document.version()}, ${counted.join(', ')}; 0 errors, 0 warnings`);
});

// A parser that finds nothing would not be missed otherwise.
for (const [fault, right, wrong] of [
  ['an action that there is not', 'action: receive', 'action: hear'],
  ['a reference that leads nowhere', "'#/components/schemas/Position'", "'#/components/schemas/Place'"],
  ['a schema that is none', 'maxLength: 128', 'maxLength: many'],
]) {
  test(`the parser finds ${fault}`, async () => {
    assert.ok(text.includes(right));
    const { remarks } = await parse(text.replace(right, wrong));
    assert.notDeepEqual(remarks, []);
  });
}
