import type { Chat, Gap, JoinOptions, Message, Position, RoomState, SendOptions, Unsent } from './roomcast.js';

export interface UseRoomOptions extends JoinOptions {
  chat: Chat;
  /** How many of the last messages to keep: 500. */
  keep?: number;
}

export interface UsedRoom {
  /** In their order, the last `keep` of them. */
  messages: readonly Message[];
  /** What could not be had, as far as it lies among `messages`. Each lies before the message after its `upTo`. */
  gaps: readonly Gap[];
  /** What is not known to be kept; show it behind `messages`. */
  unsent: readonly Unsent[];
  state: RoomState;
  send(text: string, options?: SendOptions): Promise<Position | undefined>;
}

/**
 * Is in a room for as long as a component that says so is mounted. Components that name the same room of the same client
 * share one membership, with the options of the first; it ends shortly after the last one is gone.
 */
export function useRoom(room: string, options: UseRoomOptions): UsedRoom;
