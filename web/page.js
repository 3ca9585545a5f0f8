import { Conversation } from './conversation.js';
import { Door, address, fault, fromAddress } from './door.js';
import { sentence } from './status.js';
import { currentToken, holder, setToken, takeToken } from './token.js';

/** The fields of the door that an error of the server is about. */
const FIELDS = { bad_room: 'room', bad_username: 'name', forbidden: 'room', unauthorized: 'token' };

const NO_TOKEN = 'This server wants to know who you are: it lets in those who have a token.';

let conversation;

const door = new Door((room, name, token) => {
  setToken(token);
  history.pushState(null, '', address(room, name));
  start();
});

/** Shows what the address names: a room, or the door. */
function start(problem) {
  conversation?.end();
  conversation = undefined;
  const isSent = takeToken();
  const { room, name: given } = fromAddress();
  const token = currentToken();
  const name = holder(token) || given;
  const wrong = problem ?? (room ? fault({ room, name: name || '-', token }) : undefined);
  // Whoever is sent here with a token needs no name in the address; whoever has left a room has none there.
  if (!room || !name || !(given || isSent) || wrong) {
    door.show({ room, name, token, problem: wrong });
    return;
  }
  if (name !== given) history.replaceState(null, '', address(room, name));
  door.hide();
  conversation = new Conversation(room, name, {
    refused: error => {
      const text = error.code === 'unauthorized' && !token ? NO_TOKEN : sentence(error);
      // Another one is wanted.
      if (error.code === 'unauthorized') setToken('');
      start({ field: FIELDS[error.code], text });
    },
    leave: () => {
      history.pushState(null, '', address(room));
      start();
    },
    // Perhaps the page itself is too old for the server.
    again: () => location.reload(),
  });
}

addEventListener('popstate', () => start());
start();
