/** How long a cut lasts, in milliseconds. */
const CUT_FOR = 4000;

/** The connection of this page to its server, which can be cut. */
export class Cable {
  isCut = false;
  /** The class of the client's sockets. */
  WebSocket;
  #socket;
  #mending;

  constructor() {
    const cable = this;
    // Keeps the socket, to be able to cut it, and lets none open while it is cut.
    this.WebSocket = class extends WebSocket {
      constructor(...given) {
        super(...given);
        cable.#socket = this;
        if (cable.isCut) this.close();
      }
    };
  }

  /** Cuts the connection for a while, like a network that goes away and comes back. @param {() => void} mended */
  cut(mended) {
    const socket = this.#socket;
    this.isCut = true;
    // What the client hears of a connection that breaks; the real end is slower, or never comes.
    socket.dispatchEvent(new CloseEvent('close', { code: 1006 }));
    socket.close();
    this.#mending = setTimeout(() => {
      this.isCut = false;
      mended();
      // What the system says when a network is back.
      if (navigator.onLine) dispatchEvent(new Event('online'));
    }, CUT_FOR);
  }

  end() {
    clearTimeout(this.#mending);
  }
}
