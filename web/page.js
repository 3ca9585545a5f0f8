import { Conversation } from './conversation.js';
import { Door, address, fault, fromAddress } from './door.js';
import { sentence } from './status.js';

/** The fields of the door that an error of the server is about. */
const FIELDS = { bad_room: 'room', bad_username: 'name' };

let conversation;

const door = new Door((room, name) => {
  history.pushState(null, '', address(room, name));
  start();
});

/** Shows what the address names: a room, or the door. */
function start(problem) {
  conversation?.end();
  conversation = undefined;
  const { room, name } = fromAddress();
  const wrong = problem ?? (room ? fault({ room, name: name || '-' }) : undefined);
  if (!room || !name || wrong) {
    door.show({ room, name, problem: wrong });
    return;
  }
  door.hide();
  conversation = new Conversation(room, name, {
    refused: error => start({ field: FIELDS[error.code], text: sentence(error) }),
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
