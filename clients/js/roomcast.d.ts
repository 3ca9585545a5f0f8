/**
 * A client for roomcast that never loses its place: it comes back by itself, resumes every room where it was, and
 * sends what was not acknowledged again under the same id. Times are in milliseconds, moments are those of `Date.now()`.
 */

/** A place in the order of a room. `seq` of one `epoch` says nothing about `seq` of another. */
export interface Position {
  epoch: string;
  seq: number;
}

/** What somebody said in a room. `epoch` and `seq` are missing on what a foreign server said. */
export interface Message {
  room: string;
  username: string;
  text: string;
  /** When it was said, by the clock of Redis. Show it, but order by the order in which messages come. */
  ts: number;
  /** The server that took it. */
  originServer: string;
  epoch?: string;
  seq?: number;
  /** The id under which it was sent, if its sender gave it one. */
  id?: string;
}

/** What somebody said to everybody. Broadcasts are of no room, and those that are said while you are away do not come. */
export type Broadcast = Omit<Message, 'room' | 'username'> & { username?: string };

/** Messages that cannot be had from the server: all after `after`, up to and with `upTo`. */
export interface Gap {
  /** Where you were. Missing where nothing was known before. */
  after?: Position;
  /** Where the room goes on. Missing in a room that keeps no history. */
  upTo?: Position;
  /** `trimmed`, `new_epoch` or `unknown_position`, as docs/protocol.md says, or `missed`. */
  reason: string;
  /** Whether `load` of the room brought what was missing; its messages have come before this. */
  filled: boolean;
}

/** You are a member, and what was missed or asked for has come. */
export interface Joined {
  position?: Position;
  /** With a position given: whether all that was missed has come. If not, a `reset` has said so. */
  resumed?: boolean;
  /** The server that this connection leads to. */
  originServer?: string;
}

/** A message that is not known to be kept. */
export interface Unsent {
  id: string;
  room: string;
  /** The name under which it is said; the id belongs to it. */
  username: string | undefined;
  text: string;
  /** When `send` was called. */
  at: number;
  /** Whether it was ever put on a connection, so that it may have been kept. */
  sent: boolean;
  /** From when on the server remembers the id, if it was kept. */
  since?: number;
  /** Where the room was when it was first put on a connection. */
  after?: Position;
}

/**
 * Where unsent messages outlive a reload, such as IndexedDB or `localStorage`. One store belongs to one client at a time.
 * Calls may overlap; they must take effect in their order. What a call failed to keep is as if the page had been closed before:
 * a message may be missing after a reload, or, if it is older than `dedupWindow` then, be sent a second time. The client
 * connects when `all` has answered.
 */
export interface Store {
  /** All that is there, in the order in which it was put. */
  all(): Unsent[] | Promise<Unsent[]>;
  /** Keeps a message, or takes the place of the one with this id. */
  put(unsent: Unsent): void | Promise<void>;
  delete(id: string): void | Promise<void>;
}

/**
 * Why something could not be done. `code` is one of the server's error codes, or of these:
 *
 * - `queue_full`: too much is unsent already; nothing was sent.
 * - `too_old`: it could not be sent for `maxUnsentAge`.
 * - `outcome_unknown`: the connection broke, and nobody can tell any more whether the message was kept.
 * - `left`: you left the room. `closed`: the client is closed.
 * - `slow_reader`: a loop over a room fell 10,000 messages behind.
 */
export class RoomcastError extends Error {
  code: string;
  /** Whether the message may have been kept all the same. If it is false, it was not. */
  maybeKept: boolean;
}

export type State =
  | { name: 'connecting' }
  | { name: 'open' }
  /** `until` is when it tries again; without it, it tries when the network is back. */
  | { name: 'waiting'; until?: number; why: string }
  /** For good. `remedy` says what to do. */
  | { name: 'closed'; why: string; remedy: string };

export type RoomState =
  /** Not a member at the moment; it will be as soon as that can be. */
  | { name: 'joining' }
  | { name: 'joined' }
  /** For good: you left, or `error` says why you were refused. */
  | { name: 'left'; error?: RoomcastError };

/** What a WebSocket must be able to do; the browser's can, and so can that of `ws`. */
export interface WebSocketLike {
  send(data: string): void;
  close(code?: number, reason?: string): void;
  addEventListener(type: 'open' | 'message' | 'close' | 'error', listener: (event: any) => void): void;
}

export interface ConnectOptions {
  /** The name in all rooms that are joined without one. */
  username?: string;
  /**
   * Asked for a token before every connection. It travels as a subprotocol, so that it stands in no URL and in no log.
   * If it fails, that counts as a connection that failed.
   */
  getToken?: (options: { signal: AbortSignal }) => string | Promise<string>;
  /** The class of the sockets; `globalThis.WebSocket` if it is left out. */
  WebSocket?: new (url: string, protocols?: string[]) => WebSocketLike;
  /** Closes the client when it is aborted. */
  signal?: AbortSignal;
  store?: Store;
  /** Most messages that may be unsent, of all rooms together: 1000. */
  maxUnsent?: number;
  /** Most bytes of text in them, in UTF-8: 1 MiB. */
  maxUnsentBytes?: number;
  /** After how long a message that could not be sent fails: 1 hour. */
  maxUnsentAge?: number;
  /** For how long the server remembers an id: 5 minutes, as `ROOMCAST_DEDUP_WINDOW`. */
  dedupWindow?: number;
}

export interface JoinOptions {
  username?: string;
  /** With no position: how many of the last messages to get first. */
  last?: number;
  /** A position of this room that you kept: everything after it comes first. */
  after?: Position;
  /**
   * Loads what the server no longer has from where you keep it. What it returns comes as messages, in its place; what is
   * said meanwhile is held back. It is given up, and the gap stays, after 10 seconds or when 10,000 events are held back.
   */
  load?: (gap: Omit<Gap, 'filled'>, options: { signal: AbortSignal }) => Message[] | Promise<Message[]>;
}

export interface SendOptions {
  /** An id of your own; it must be one that nobody else chooses or can guess. */
  id?: string;
  signal?: AbortSignal;
}

export interface ChatEvents {
  state: State;
  broadcast: Broadcast;
  /** A listener, `load` or the store threw, or the server refused what no room is to blame for. Without a listener it is logged. */
  error: unknown;
}

export interface RoomEvents {
  message: Message;
  reset: Gap;
  joined: Joined;
  state: RoomState;
  /** `room.unsent` has changed. */
  unsent: readonly Unsent[];
  /** A message could not be sent. Its `send` was rejected, too, if it was called since the last reload. */
  failed: { unsent: Unsent; error: RoomcastError };
}

interface Emitter<Events> {
  /** Has `listener` called for each such event, until what this returns is called or `signal` is aborted. */
  on<Type extends keyof Events>(
    type: Type,
    listener: (event: Events[Type]) => void,
    options?: { signal?: AbortSignal },
  ): () => void;
}

/** A client. It holds one connection, or tries to. */
export interface Chat extends Emitter<ChatEvents> {
  readonly state: State;
  /**
   * Joins a room, now and after every new connection. A room that is joined already is returned as it is.
   *
   * @throws {RoomcastError} `closed`, if this client is closed.
   */
  join(room: string, options?: JoinOptions): Room;
  /** Ends it for good: no socket, no timer and no event is left. What is unsent stays in the store, and is rejected. */
  close(): void;
}

/**
 * A room. Iterating over it gives the messages that come from then on, until it is left or the loop ends; a loop that
 * falls 10,000 messages behind ends with an error.
 */
export interface Room extends Emitter<RoomEvents>, AsyncIterable<Message> {
  readonly name: string;
  readonly state: RoomState;
  /** That of the last event. Keep it, and give it as `after` to go on from here another time. */
  readonly position: Position | undefined;
  /** What is not known to be kept, in its order. */
  readonly unsent: readonly Unsent[];
  /**
   * Says something. Resolves with its position when the server has kept it, also after a reconnect, and rejects with a
   * {@link RoomcastError} when that cannot be. The position is missing where the server keeps no history. Aborting takes
   * the message back if it is not on a connection; else nobody can tell whether it is kept.
   */
  send(text: string, options?: SendOptions): Promise<Position | undefined>;
  leave(): void;
}

/**
 * Connects to `ws://…/ws` or `wss://…/ws`; `http` and `https` are taken for these, and a page may give a path alone.
 *
 * @throws {TypeError} if that is no such URL, or if there is no WebSocket here and none was given.
 */
export function connect(url: string | URL, options?: ConnectOptions): Chat;
