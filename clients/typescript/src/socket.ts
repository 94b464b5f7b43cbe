import { type Http, PATIENCE, SEATS } from "./http.js";

const PROTOCOL = "sojourn.v1";

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

interface Ears {
  said(socket: Socket, message: Said): void;
  /** It was open, and was closed from elsewhere. */
  closed(socket: Socket, code: number): void;
}

/** Opens a socket that keeps a lease; undefined: it does not. */
export function openSocket(make: SocketMaker, http: Http, token: string, ears: Ears): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    let raw: SocketLike;
    try {
      raw = make(`${http.url.replace(/^http/, "ws")}${SEATS}/live`, [PROTOCOL, token]);
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
    let open = false;
    const late = http.clock.after(PATIENCE, () => socket.close());
    const over = (kept: boolean) => {
      late();
      resolve(kept ? socket : undefined);
    };
    raw.onmessage = ({ data }) => {
      const said = JSON.parse(data as string) as Said;
      ears.said(socket, said);
      if (said.type === "open") {
        open = true;
        over(true);
      }
    };
    raw.onclose = ({ code }) => {
      over(false);
      if (open) ears.closed(socket, code);
    };
    raw.onerror = () => {}; // `onclose` follows
  });
}
