/** A class of sockets without a network, whose events a test fires. */
export function sockets() {
  const made = [];
  class Socket {
    listeners = {};
    sent = [];
    isOpen = true;
    constructor() {
      made.push(this);
    }
    addEventListener(type, listener) {
      this.listeners[type] = listener;
    }
    send(data) {
      this.sent.push(data);
    }
    close() {
      this.isOpen = false;
    }
  }
  return { made, Socket };
}

/** Lets what has been promised come to pass. */
export async function settle() {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
}
