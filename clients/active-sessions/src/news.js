/** News of changes: from the server's socket, from this browser's other tabs, and from the clock. */
const POLL = 60_000; // ms between looks while there is no socket
const RETRY_WITHIN = 30_000; // ms at most until the socket is tried again

export const EVENTS = ["pagehide", "pageshow", "online", "visibilitychange", "sojourn:translated"];

export class News {
  #socket = null;
  #drops = 0;
  #tabs = null;
  #poll;
  #again;
  #look;
  #leave;

  /** `look` is called when something may have changed, `leave` with a reason when the session is over. */
  constructor(look, leave) {
    this.#look = look;
    this.#leave = leave;
  }

  /** Tell whether whatever changes is told at once. */
  get live() {
    return this.#socket?.readyState === 1;
  }

  /** `alone` tells whether to look by the clock although there is a socket. */
  listen(base, live, alone) {
    if (!this.#tabs) {
      this.#tabs = new BroadcastChannel("sojourn-active-sessions");
      this.#tabs.onmessage = () => this.#look();
    }
    if (live === null || this.#socket) return;
    clearTimeout(this.#again);
    clearInterval(this.#poll);
    this.#poll = setInterval(() => (this.live && !alone()) || this.#look(), POLL);
    if (live === "poll") return;
    const socket = (this.#socket = new WebSocket(`${base}/live`));
    socket.onopen = () => {
      if (this.#drops) this.#look();
      this.#drops = 0;
    };
    socket.onmessage = ({ data }) => {
      const { type, reason } = JSON.parse(data);
      if (type === "changed") this.#look();
      if (type === "signedOut") this.#leave(reason);
    };
    socket.onclose = ({ code }) => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      if (code === 4401) return this.#leave(""); // the session has ended
      const wait = Math.min(RETRY_WITHIN, 1_000 * 2 ** this.#drops++) * (0.5 + Math.random() / 2);
      this.#again = setTimeout(() => this.listen(base, live, alone), wait);
    };
  }

  /** Tell this browser's other tabs that something has changed. */
  tell() {
    this.#tabs?.postMessage(0);
  }

  hangUp() {
    const socket = this.#socket;
    this.#socket = null;
    clearTimeout(this.#again);
    clearInterval(this.#poll);
    socket?.close();
    this.#tabs?.close();
    this.#tabs = null;
  }
}
