import type { Chat, Gap, JoinOptions, Message, Room, RoomState, Signal, Unsent } from './roomcast.js';

export interface UseRoomOptions extends JoinOptions {
  chat: Chat;
  /** How many of the last messages to keep: 500 by default. */
  keep?: number;
}

export interface UsedRoom {
  /** The last `keep` messages, in order. */
  messages: readonly Message[];
  /** The last `keep` gaps: each lies just before the message that follows its `upTo`. */
  gaps: readonly Gap[];
  /** Messages that are not known to be kept; show them after `messages`. */
  unsent: readonly Unsent[];
  state: RoomState;
  /** These work in effects and handlers while the component is mounted. Their identity is stable. */
  send: Room['send'];
  /** Does nothing while the component is not mounted. */
  signal: Room['signal'];
  history: Room['history'];
  /** Calls the listener for each signal until the returned function is called. Use it in an effect. */
  onSignal(listener: (signal: Signal) => void): () => void;
}

/**
 * Stays in a room while the component is mounted. Components with the same room and client share one membership, with the
 * options of the first one; it ends shortly after the last one is unmounted. Later changes of the options have no effect.
 * If the client is closed, `state` is `left` with the error.
 */
export function useRoom(room: string, options: UseRoomOptions): UsedRoom;
