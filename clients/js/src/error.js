/** Why something failed; `roomcast.d.ts` lists the codes. */
export class RoomcastError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {boolean} [maybeKept]
   * @param {string} [right]
   */
  constructor(code, message, maybeKept = false, right = undefined) {
    super(message);
    this.name = 'RoomcastError';
    this.code = code;
    this.maybeKept = maybeKept;
    this.right = right;
  }
}
