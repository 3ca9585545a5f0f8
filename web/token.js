/** Where the token is stored. `sessionStorage` belongs to one tab and ends with it. */
const TOKEN = 'roomcast.token';

/** The token of this tab; empty without one. */
let token = stored();

function stored() {
  try {
    return sessionStorage.getItem(TOKEN) ?? '';
  } catch {
    return '';
  }
}

export function currentToken() {
  return token;
}

/** @param {string} value Nothing, to forget it. */
export function setToken(value) {
  token = value;
  try {
    if (value) sessionStorage.setItem(TOKEN, value);
    else sessionStorage.removeItem(TOKEN);
  } catch {
    // A browser that keeps nothing asks again after a reload.
  }
}

/**
 * Takes the token out of the address (`#token=…`), which browsers send to no server, so that nobody sees or shares it. Says
 * whether there was one.
 */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get('token');
  if (given === null) return false;
  history.replaceState(history.state, '', location.pathname + location.search);
  setToken(given.trim());
  return true;
}

/** Whose token it is, as far as the page can read it; empty if it cannot. The server decides. @param {string} text */
export function holder(text) {
  try {
    const payload = text.split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(payload), letter => letter.charCodeAt(0));
    const { sub } = JSON.parse(new TextDecoder().decode(bytes));
    return typeof sub === 'string' ? sub : '';
  } catch {
    return '';
  }
}

/** What the client needs to know of who this is; rows show which server took what. @param {string} username */
export function identity(username) {
  // There is no other one to get here: when it has ended, the server says so.
  const who = { username, originServer: true };
  return token ? { ...who, getToken: () => token } : who;
}
