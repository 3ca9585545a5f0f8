/** Why something failed; `roomcast.d.ts` lists the codes. */
export class RoomcastError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {boolean} [maybeKept]
   */
  constructor(code, message, maybeKept = false) {
    super(message);
    this.name = 'RoomcastError';
    this.code = code;
    this.maybeKept = maybeKept;
  }
}
