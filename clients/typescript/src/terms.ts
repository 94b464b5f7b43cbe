import type { SojournError } from "./errors.js";
import type { components } from "./generated.js";
import type { Http } from "./http.js";
import type { SocketMaker } from "./socket.js";

type Schemas = components["schemas"];

/**
 * Where a seat stands, as this program can know it. It is held in `safe` and `jeopardy`: a lease is trusted for as
 * long as the server said, counted from before the request left, less 2 %. So `lost` comes no later here than
 * there, whatever the network did and however long the machine slept.
 */
export type State = "new" | "safe" | "jeopardy" | "lost" | "released";

/** From `lost` to `lost`: the seat was to be got back, and now it is not; `reason` says why. */
export interface Change {
  before: State;
  state: State;
  reason: string;
  /** The seat was lost, if only for a moment, and is back: check what must not overlap with somebody else's work. */
  resumed: boolean;
}

export interface Waiting {
  /** SeatDenied, with the place in the line; or why the server could not be asked. */
  error: SojournError;
  /** Seconds until the next request. */
  nextIn: number;
}

export interface Events {
  change: Change;
  wait: Waiting;
  /** Somebody was refused, and the person here has done nothing for a while: a good moment to release. */
  needed: undefined;
  sessionExpired: undefined;
  /** A beat counted; `expiresIn` says for how long. */
  renewed: undefined;
}

/** What brings a lease back after this program is gone: keep it where only this program reads it. */
export type Saved = Pick<Schemas["SeatBody"], "leaseId" | "token" | "fence" | "heartbeatInterval" | "lostAfter">;

export interface AcquireOptions {
  /** Take a lease of the same user's, where every seat is in use. */
  takeover?: boolean;
  /** Seconds to wait in the line. */
  wait?: number;
  signal?: AbortSignal;
}

export interface Wish {
  feature: string;
  userId?: string;
  licenseId?: string;
  sessionId?: string;
  device?: Schemas["DeviceBody"];
}

export interface SeatOptions extends Wish {
  /** Which copy of the program this is: the same one gets the same seat. */
  clientId?: string;
  /** `auto`: an open socket, and heartbeats while there is none. */
  presence?: "auto" | "beats";
  /** Whether a seat that was lost is got back without being asked for. */
  resume?: boolean;
}

/** A seat for one user and client. */
export interface Seat {
  readonly state: State;
  /** What the state follows from: `granted`, `overdue`, `revoked`, … */
  readonly reason: string;
  readonly held: boolean;
  /** Seconds for which it can be relied on without another beat; 0: it is not held. */
  readonly expiresIn: number;
  readonly leaseId: string | undefined;
  /** Send it along with writes: a resource that has seen a higher one refuses. */
  readonly fence: number | undefined;
  acquire(options?: AcquireOptions): Promise<void>;
  /** Gives the seat back. False: the server has not confirmed it in three more tries, and it is forgotten here. */
  release(): Promise<boolean>;
  /** Leaves for good: says goodbye, ends what is under way, and asks for nothing any more. */
  close(): void;
  /** Throws SeatLost unless the seat is held: call it before what only a holder may do. */
  check(): void;
  on<K extends keyof Events>(name: K, call: (event: Events[K]) => void): () => void;
}

export interface Means {
  http: Http;
  /** A license key, or a user's JWT. */
  proof: () => string | Promise<string>;
  socket?: SocketMaker;
  beacon?: (url: string, body: string) => boolean;
  hidden?: () => boolean;
}
