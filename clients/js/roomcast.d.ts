/**
 * A client for roomcast that never loses its place: it reconnects by itself, resumes every room where it was, and sends
 * unacknowledged messages again under the same id. Durations are in milliseconds, times are those of `Date.now()`.
 */

/** A place in a room's order. Only positions of the same `epoch` can be compared. */
export interface Position {
  epoch: string;
  seq: number;
}

/** What a message says: a `text`, `data` or both. */
export interface Content {
  /** For people. */
  text?: string;
  /** For programs: any JSON but `null`. */
  data?: unknown;
  /** What kind of message it is. */
  event?: string;
}

/** What somebody said in a room. A message from a server of another kind has no `epoch` and `seq`. */
export interface Message extends Content {
  room: string;
  /** Absent if a back end said it in nobody's name. */
  username?: string;
  /** When it was said, by Redis' clock. Show it, but keep messages in the order of their arrival. */
  ts: number;
  /** The server that took it, if the client asks for that (`originServer`). */
  originServer?: string;
  epoch?: string;
  seq?: number;
  /** The id under which it was sent, if its sender gave it one. */
  id?: string;
}

/** What somebody said to everybody. A broadcast belongs to no room; those that you miss while you are away do not come later. */
export type Broadcast = Omit<Message, 'room'>;

/** What another member tells those who are there now. It is not kept, and may not arrive. */
export interface Signal {
  room: string;
  username: string;
  event: string;
  data?: unknown;
  ts?: number;
  originServer?: string;
}

/** What was said in a room before some place. */
export interface History {
  /** In order. They do not come as events. */
  messages: Message[];
  /** Whether there is more before the first of them. */
  hasMore: boolean;
}

export interface HistoryOptions {
  /** A message, or its position: what was said before it. Without it: what was said last. */
  before?: { epoch?: string; seq?: number };
  /** How many messages: 50 without it, and 100 at most. */
  limit?: number;
}

/** Messages that the server no longer has: all after `after`, up to and including `upTo`. */
export interface Gap {
  /** Your position before the gap, if you had one. */
  after?: Position;
  /** The position after which the room goes on. Absent if the room keeps no history. */
  upTo?: Position;
  /**
   * `trimmed`, `new_epoch` or `unknown_position` (see docs/protocol.md), `forbidden` if your token does not let you read what was
   * said while you were away, or `missed`.
   */
  reason: string;
  /** Whether the room's `load` supplied what was missing; its messages came before this event. */
  filled: boolean;
}

/** You are a member, and the missed or requested messages have come. */
export interface Joined {
  position?: Position;
  /** Whether everything missed since your position has come. If not, a `reset` has said so. Absent without a position. */
  resumed?: boolean;
  /** The server that this connection leads to. */
  originServer?: string;
}

/** A message that is not known to be kept. */
export interface Unsent extends Content {
  id: string;
  room: string;
  /** The name of its sender, to which the id belongs. */
  username: string | undefined;
  /** When `send` was called. */
  at: number;
  /** Whether it was ever sent, so that it may have been kept. */
  sent: boolean;
  /** When the server began to remember the id, if it was kept. */
  since?: number;
  /** The room's position when it was first sent. */
  after?: Position;
}

/**
 * Where unsent messages survive a reload, such as IndexedDB or `localStorage`. A store belongs to one client at a time, and to one
 * user where the token says the name. Calls may overlap, and must take effect in order. If a call fails, a reload behaves as if the page had been closed before it: a
 * message may be missing, or, if it is older than `dedupWindow` by then, be sent a second time. The client connects when
 * `all` has answered.
 */
export interface Store {
  /** All stored messages, in the order of `put`. */
  all(): Unsent[] | Promise<Unsent[]>;
  /** Adds a message, or replaces the one with this id. */
  put(unsent: Unsent): void | Promise<void>;
  delete(id: string): void | Promise<void>;
}

/**
 * Why something failed. `code` is one of the server's error codes, or one of these:
 *
 * - `queue_full`: too many messages are unsent; this one was not accepted.
 * - `too_old`: the message could not be sent for `maxUnsentAge`.
 * - `outcome_unknown`: the connection broke, and nobody can know any more whether the message was kept.
 * - `no_answer`: the connection broke, or the server did not answer in 10 seconds. Ask again.
 * - `left`: you left the room. `closed`: the client is closed.
 * - `slow_reader`: a loop over a room fell 10,000 messages behind.
 *
 * `unauthorized` ends the client: the server refused a token that `getToken` had just given, or `getToken` said so. `forbidden`
 * ends a room or a message that the token does not allow.
 */
export class RoomcastError extends Error {
  code: string;
  /** Whether the message may have been kept nevertheless. If false, it was not. */
  maybeKept: boolean;
  /** The right that was missing, if it is `forbidden`: see docs/protocol.md. */
  right: string | undefined;
}

/** How a client is connected: by a WebSocket, or by a stream of events and requests over HTTP. */
export type Transport = 'websocket' | 'stream';

export type State =
  | { name: 'connecting' }
  | { name: 'open' }
  /** It retries at `until`, or, without one, when the network is back. `error` is there if the token had ended. */
  | { name: 'waiting'; until?: number; why: string; error?: RoomcastError }
  /** It will not reconnect. `remedy` says what to do; `error` is there if no token will do. */
  | { name: 'closed'; why: string; remedy: string; error?: RoomcastError };

export type RoomState =
  /** Not a member now; it joins as soon as it can. */
  | { name: 'joining' }
  | { name: 'joined' }
  /** It will not join again: you left, or `error` says why the server refused you. */
  | { name: 'left'; error?: RoomcastError };

/** What the client needs from a WebSocket. The browser's has it, and so has that of `ws`. */
export interface WebSocketLike {
  send(data: string): void;
  close(code?: number, reason?: string): void;
  addEventListener(type: 'open' | 'message' | 'close' | 'error', listener: (event: any) => void): void;
}

export interface ConnectOptions {
  /** Your name in rooms that you join without one. With a token you need none: it says who you are. */
  username?: string;
  /**
   * Called for a token before every connection, and again before the token ends: the next one goes out on the open connection,
   * and nothing is interrupted. Give another one each time. It travels as a subprotocol or in a frame, so it appears in no URL
   * and no log. A failure counts as a failed connection; throw an error whose `code` is `unauthorized`, or whose `name` is
   * `UnauthorizedError`, if there will be no token any more: it ends the client. All tokens of a client must be of one user.
   */
  getToken?: (options: { signal: AbortSignal }) => string | Promise<string>;
  /** Whether to be told which server took each message. */
  originServer?: boolean;
  /**
   * What may be used: both by default. A stream takes the place of WebSockets where two in a row did not open, for as long as none
   * does; it needs `fetch`.
   */
  transports?: readonly Transport[];
  /** The class of the sockets: `globalThis.WebSocket` by default. */
  WebSocket?: new (url: string, protocols?: string[]) => WebSocketLike;
  /** Aborting it closes the client. */
  signal?: AbortSignal;
  store?: Store;
  /** Most unsent messages of all rooms together: 1000 by default. */
  maxUnsent?: number;
  /** Most bytes of their texts and data, in UTF-8: 1 MiB by default. */
  maxUnsentBytes?: number;
  /** After how long an unsent message fails: 1 hour by default. */
  maxUnsentAge?: number;
  /** How long the server remembers an id (`ROOMCAST_DEDUP_WINDOW`): 5 minutes by default. */
  dedupWindow?: number;
}

export interface JoinOptions {
  username?: string;
  /** Without a position: how many of the last messages to get first. */
  last?: number;
  /** A position of this room that you saved: everything after it comes first. */
  after?: Position;
  /**
   * Loads messages that the server no longer has from your own store. What it returns comes as messages, in place; what is
   * said meanwhile is held back. After 10 seconds, or with 10,000 events held back, it is aborted and the gap stays.
   */
  load?: (gap: Omit<Gap, 'filled'>, options: { signal: AbortSignal }) => Message[] | Promise<Message[]>;
}

export interface SendOptions {
  /** Your own id; nobody else may use it or be able to guess it. */
  id?: string;
  signal?: AbortSignal;
}

/** The server has taken your token. */
export interface Authenticated {
  /** Who you are. */
  username: string;
  /** How long the token is good; for ever without this. */
  expiresMs?: number;
  /** The rooms that the server joins for you. Call `join` for those that you want to hear. */
  rooms: string[];
}

export interface ChatEvents {
  /** `open` comes once more when a WebSocket takes the place of a stream. */
  state: State;
  /** The server has taken a token: that of the connection, or one that followed it. */
  authenticated: Authenticated;
  broadcast: Broadcast;
  /**
   * A listener, `load` or the store threw, or the server refused a signal or something that concerns no room. Logged without a
   * listener.
   */
  error: unknown;
}

export interface RoomEvents {
  message: Message;
  signal: Signal;
  reset: Gap;
  joined: Joined;
  state: RoomState;
  /** `room.unsent` has changed. */
  unsent: readonly Unsent[];
  /** A message could not be sent. Its `send` was rejected too, if it was called since the last reload. */
  failed: { unsent: Unsent; error: RoomcastError };
}

interface Emitter<Events> {
  /** Calls `listener` for each such event, until you call the returned function or abort `signal`. */
  on<Type extends keyof Events>(
    type: Type,
    listener: (event: Events[Type]) => void,
    options?: { signal?: AbortSignal },
  ): () => void;
}

/** A client. It keeps one connection, or tries to. */
export interface Chat extends Emitter<ChatEvents> {
  readonly state: State;
  /** What the client is connected by, while it is `open`. */
  readonly transport: Transport | undefined;
  /**
   * Joins a room, now and after every new connection. Returns the existing room if you have joined it already.
   *
   * @throws {RoomcastError} `closed`, if this client is closed, or `unauthorized`, if that is why.
   */
  join(room: string, options?: JoinOptions): Room;
  /** Closes the client: no socket, timer or event remains. Unsent messages are rejected, and stay in the store. */
  close(): void;
}

/**
 * A room. Iterating over it yields messages from then on, until you leave or the loop ends; a loop that falls 10,000
 * messages behind ends with an error.
 */
export interface Room extends Emitter<RoomEvents>, AsyncIterable<Message> {
  readonly name: string;
  readonly state: RoomState;
  /** The position of the last event. Save it, and pass it as `after` to resume from here another time. */
  readonly position: Position | undefined;
  /** Messages that are not known to be kept, in order. */
  readonly unsent: readonly Unsent[];
  /**
   * Says something. Resolves with its position when the server has kept it, even after a reconnect, and rejects with a
   * {@link RoomcastError} if that fails. There is no position if the server keeps no history. Aborting takes the message
   * back if it was not sent yet; otherwise nobody can know whether it is kept. What you change in `data` afterwards is not sent.
   */
  send(message: string | Content, options?: SendOptions): Promise<Position | undefined>;
  /**
   * Tells the other members something that nobody needs later, such as typing. It is dropped while you are not in the room, and
   * may be lost.
   */
  signal(event: string, data?: unknown): void;
  /**
   * Reads what was said before. It waits until you are in the room. Rejects with a {@link RoomcastError}: the server's, or
   * `no_answer` if the connection breaks or 10 seconds pass.
   */
  history(options?: HistoryOptions): Promise<History>;
  leave(): void;
}

/**
 * Connects to `ws://…/ws` or `wss://…/ws`; `http` and `https` mean the same, and a page may give only a path.
 *
 * @throws {TypeError} if the URL is not one of these, or if there is no WebSocket here and none was given, unless
 * `transports` allows streams alone.
 */
export function connect(url: string | URL, options?: ConnectOptions): Chat;
