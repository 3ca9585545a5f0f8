// What users write, as tsc sees it; each `@ts-expect-error` is a mistake that the types have to find.
import { RoomcastError, connect, type Message, type Position } from 'roomcast-client';
import { useRoom } from 'roomcast-client/react';
import WebSocket from 'ws';

const abort = new AbortController();
const chat = connect('wss://chat.example.com/ws', {
  username: 'ann',
  getToken: async ({ signal }) => (await fetch('/token', { signal })).text(),
  WebSocket,
  signal: abort.signal,
  store: { all: () => [], put: async () => {}, delete: () => {} },
});
const room = chat.join('lobby', { last: 50, load: async ({ upTo }) => (upTo ? [] : []) });
const position: Promise<Position | undefined> = room.send('hello', { signal: abort.signal });
const off: () => void = room.on('message', ({ text, seq }) => [text?.length, seq?.toFixed()], { signal: abort.signal });
room.on('reset', ({ after, upTo, filled }) => [after?.seq, upTo?.epoch, filled === true]);
room.on('failed', ({ unsent, error }) => [unsent.text, unsent.data, error.code, error.maybeKept, error.right]);
chat.on('authenticated', ({ username, expiresMs, rooms }) => [username.length, expiresMs?.toFixed(), ...rooms]);
chat.on('state', (state) => {
  if (state.name === 'waiting') return state.until?.toFixed();
  if (state.name === 'closed') return state.error?.code ?? state.remedy.length;
});
const all = async () => {
  for await (const message of room) message satisfies Message;
};
const view = () => useRoom('lobby', { chat, last: 50 }).messages.map(({ text }) => text);
const isOurs = (error: unknown) => error instanceof RoomcastError && error.code;

// @ts-expect-error there is no such event
room.on('massage', () => {});
room.send({ event: 'order.paid', data: { order: 17 } });
room.signal('typing');
room.on('signal', ({ username, event, data }) => [username.length, event, data]);
const earlier = async (oldest: Message) => (await room.history({ before: oldest, limit: 20 })).messages.length;
// @ts-expect-error a text is a string
room.send({ text: 1 });
// @ts-expect-error a name is a string
connect('/ws', { username: 1 });
// @ts-expect-error the hook needs a client
useRoom('lobby', {});

export { all, earlier, isOurs, off, position, view };
