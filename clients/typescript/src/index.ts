import { BrowserSeat, onPage } from "./browser.js";
import { type Clock, systemClock } from "./clock.js";
import { type Fetch, Http, newId } from "./http.js";
import { OwnSeat } from "./seat.js";
import type { SocketLike, SocketMaker } from "./socket.js";
import type { Means, Saved, Seat, SeatOptions } from "./terms.js";

export type { components, operations, paths } from "./generated.js";
export type { Clock, SocketMaker };
export { type Code, type Problem, SeatDenied, SeatLost, type ServerCode, SojournError } from "./errors.js";
export type { AcquireOptions, Change, Events, Means, Saved, Seat, SeatOptions, State, Waiting } from "./terms.js";
export { BrowserSeat, OwnSeat };

export interface ClientOptions {
  url: string;
  /** A license key or a user's JWT, or what brings one. Whoever can read a page can read its key. */
  proof: string | (() => string | Promise<string>);
  clock?: Clock;
  fetch?: Fetch;
  /** `null`: heartbeats alone. */
  socket?: SocketMaker | null;
}

/** The way to one server, for one license. */
export class Client {
  readonly #means: Means;

  constructor({ url, proof, clock = systemClock(), fetch, socket }: ClientOptions) {
    const { WebSocket, document } = globalThis;
    const usual = (to: string, protocols: string[]) => new WebSocket(to, protocols) as SocketLike;
    const make = socket === undefined && WebSocket ? usual : socket;
    this.#means = {
      http: new Http(url, clock, fetch),
      proof: typeof proof === "function" ? proof : () => proof,
      ...(make && { socket: make }),
      ...(document && {
        beacon: (to: string, body: string) => navigator.sendBeacon(to, body),
        hidden: () => document.hidden,
      }),
    };
  }

  /**
   * Makes a seat; asks for nothing yet. In a page all tabs of the browser have one together, where it is said whose it
   * is (`userId`), and where the browser can tell tabs apart (a page that is not secure has no locks).
   */
  seat(options: SeatOptions): Seat {
    const { document, navigator, BroadcastChannel } = globalThis;
    if (!document || !navigator.locks || !BroadcastChannel || !options.userId) return this.own(options);
    const name = `sojourn ${this.#means.http.url} ${options.licenseId} ${options.feature} ${options.userId}`;
    return new BrowserSeat(name, () => this.#make(options, () => localStorage));
  }

  /** Makes a seat of this program's alone: of a worker, a process, or one tab. */
  own(options: SeatOptions): OwnSeat {
    const seat = this.#make(options, globalThis.document && (() => sessionStorage));
    let saved: Saved | undefined;
    onPage(
      seat.life,
      () => (saved = seat.goodbye()),
      () => saved && seat.adopt(saved),
      () => seat.nudge(),
    );
    return seat;
  }

  #make(options: SeatOptions, storage?: () => Storage): OwnSeat {
    return new OwnSeat(this.#means, { ...options, clientId: options.clientId ?? known(storage) });
  }
}

/** Returns who this copy of the program is, as it was before. */
function known(open?: () => Storage): string {
  try {
    const storage = open?.();
    const id = storage?.getItem("sojourn.client") ?? newId();
    storage?.setItem("sojourn.client", id);
    return id;
  } catch {
    return newId(); // storage is refused here
  }
}
