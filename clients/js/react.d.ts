import type { Chat, Gap, JoinOptions, Message, Position, RoomState, SendOptions, Unsent } from './roomcast.js';

export interface UseRoomOptions extends JoinOptions {
  chat: Chat;
  /** How many of the last messages to keep: 500. */
  keep?: number;
}

export interface UsedRoom {
  /** In their order, the last `keep` of them. */
  messages: readonly Message[];
  /** What could not be had, the last `keep` of it: each lies just before the message after its `upTo`. */
  gaps: readonly Gap[];
  /** What is not known to be kept; show it behind `messages`. */
  unsent: readonly Unsent[];
  state: RoomState;
  /** Works in effects and handlers while the component is mounted. Its identity stays. */
  send(text: string, options?: SendOptions): Promise<Position | undefined>;
}

/**
 * Is in a room for as long as a component that says so is mounted. Components that name the same room of the same client
 * share one membership, with the options of the first; it ends shortly after the last one is gone. Options that change later
 * do not count. Of a client that is closed, `state` is `left` with the error.
 */
export function useRoom(room: string, options: UseRoomOptions): UsedRoom;
