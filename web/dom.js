/** The element of the page with this id. */
export function element(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no ${id}`);
  return found;
}

/**
 * A new element. Its content is text or other elements, never HTML.
 *
 * @param {string} name @param {string} classes @param {...(string | Node | undefined)} content
 */
export function make(name, classes = '', ...content) {
  const made = document.createElement(name);
  if (classes) made.className = classes;
  made.append(...content.filter(part => part !== undefined));
  return made;
}

/** A button that does this. */
export function button(classes, text, press) {
  const made = make('button', classes, text);
  made.type = 'button';
  made.addEventListener('click', press);
  return made;
}
