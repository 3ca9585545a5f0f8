/**
 * Finds addresses in what people write. Anything but a plain `http` or `https` address stays text.
 *
 * @typedef {{ text: string, href?: string, host?: string }} Piece Some text; a link, if it has a `href`. `host` is where that
 * really leads, if the text could be read otherwise.
 */

/** More than these in one message are text. */
const MOST = 50;

/** Up to a blank, a quote, a bracket that nobody writes into an address, or a character that cannot be seen. */
const ADDRESS = /(?<![\p{L}\p{N}_])https?:\/\/[^\s<>"`{}|\\^\p{C}\p{Z}]+/giu;

/** What ends a sentence and not an address. */
const TAIL = /[.,:;!?'"’”»…*_~)\]]$/u;

/** @param {string} text @returns {Piece[]} */
export function pieces(text) {
  const found = [];
  let from = 0;
  let links = 0;
  for (const match of text.matchAll(ADDRESS)) {
    const link = links < MOST && read(trim(match[0]));
    if (!link) continue;
    links += 1;
    if (match.index > from) found.push({ text: text.slice(from, match.index) });
    found.push(link);
    from = match.index + link.text.length;
  }
  if (from < text.length) found.push({ text: text.slice(from) });
  return found;
}

/** Leaves out what belongs to the sentence around an address. A closing bracket belongs to it if it was opened in it. */
function trim(address) {
  for (;;) {
    const last = address.at(-1);
    if (!TAIL.test(address) || (last === ')' && balanced(address, '(', ')')) || (last === ']' && balanced(address, '[', ']'))) {
      return address;
    }
    address = address.slice(0, -1);
  }
}

function balanced(text, open, close) {
  return text.split(open).length >= text.split(close).length;
}

/** @returns {Piece | undefined} */
function read(text) {
  if (text.length > 2048 || !URL.canParse(text)) return undefined;
  const url = new URL(text);
  // A name before the host is meant to be mistaken for the host.
  if (!['http:', 'https:'].includes(url.protocol) || url.username || url.password || !url.hostname) return undefined;
  const written = text.slice(text.indexOf('//') + 2).split(/[/?#]/)[0].toLowerCase();
  const looksLike = written.replace(/:\d*$/, '');
  // Letters of other scripts may look like those of another host, and some numbers are addresses.
  return looksLike === url.hostname ? { text, href: url.href } : { text, href: url.href, host: url.hostname };
}
