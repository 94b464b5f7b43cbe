import { type Http, PATIENCE, SEATS } from "./http.js";

/** What a server says; of what else it says nothing is known here, and nothing is done. */
export type Said =
  | { type: "open"; expiresIn: number; heartbeatInterval: number; lostAfter: number }
  | { type: "alive"; expiresIn: number }
  | { type: "policy"; heartbeatInterval: number; lostAfter: number }
  | { type: "lost"; reason: string; resumable: boolean }
  | { type: "ask" | "needed" | "session_expired" | "superseded" };

export type Says = { type: "here" | "goodbye" } | { type: "beat"; idleFor?: number; nextIn?: number };

export interface SocketLike {
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number }) => void) | null;
  onerror: ((event: unknown) => void) | null;
  send(text: string): void;
  close(): void;
}

export type SocketMaker = (url: string, protocols: string[]) => SocketLike;

export interface Socket {
  say(message: Says): void;
  /** Closes it in silence. */
  close(): void;
}

/** Opens a socket that keeps a lease; undefined: it does not. `closed`: from elsewhere, or it did not open. */
export function openSocket(
  make: SocketMaker,
  http: Http,
  token: string,
  said: (socket: Socket, message: Said) => unknown,
  closed: (socket: Socket, code: number) => unknown,
): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    let raw: SocketLike;
    try {
      raw = make(`${http.url.replace(/^http/, "ws")}${SEATS}/live`, ["sojourn.v1", token]);
    } catch {
      resolve(undefined);
      return;
    }
    const socket: Socket = {
      say(message) {
        raw.send(JSON.stringify(message));
      },
      close() {
        raw.onmessage = raw.onclose = null;
        raw.close();
        over(false);
      },
    };
    const late = http.clock.after(PATIENCE, () => socket.close());
    const over = (kept: boolean) => {
      late();
      resolve(kept ? socket : undefined);
    };
    raw.onmessage = ({ data }) => {
      const message = JSON.parse(data as string) as Said;
      said(socket, message);
      if (message.type === "open") over(true);
    };
    raw.onclose = ({ code }) => {
      over(false);
      closed(socket, code);
    };
    raw.onerror = () => {}; // `onclose` follows
  });
}
