import type { SojournError } from "./errors.js";
import type { AcquireOptions, Events, Seat, State } from "./terms.js";

/** How a seat stands, as components show it. Another object whenever something of it is another. */
export interface SeatNow {
  readonly state: State;
  /** What the state follows from: `granted`, `overdue`, `revoked`, … */
  readonly reason: string;
  readonly held: boolean;
  /** It is being asked for, or waited for. */
  readonly pending: boolean;
  /** The place in the line, from 1, while it is waited for. */
  readonly position?: number;
  /** Why it was not granted when it was last asked for. */
  readonly error?: SojournError;
}

/** How a component wants its seat to be asked for. */
export type Wanting = Pick<AcquireOptions, "takeover" | "wait">;

/** What is so before a page has run, on servers too. */
export const UNASKED: SeatNow = { state: "new", reason: "new", held: false, pending: false };

const isSame = (a: SeatNow, b: SeatNow) =>
  a.state === b.state &&
  a.reason === b.reason &&
  a.held === b.held &&
  a.pending === b.pending &&
  a.position === b.position &&
  a.error === b.error;

/**
 * A seat that the components of one page have together. It is asked for as soon as one of them wants it, and given back
 * when none does any more. What is unmounted and mounted anew in one go (React's strict mode, a move within the page)
 * has wanted it all the time: one request, and no seat that nobody gives back.
 */
export class MountedSeat {
  readonly #seat: Seat;
  readonly #leave: () => void;
  readonly #watchers = new Set<() => void>();
  readonly #wants = new Set<Wanting>();
  readonly #offs: (() => void)[];
  #now = UNASKED;
  #call?: AbortController;
  #asking?: Promise<boolean>;
  #byHand = false;
  #left = false; // the page was left, and is perhaps shown again
  #timesLeft = 0;
  #cutOff = false; // by that, and not by anybody here
  #looks = false; // soon, whether anybody wants it still
  #ended = false;
  #timer?: ReturnType<typeof setTimeout>;

  /** `leave` is called when nobody watches it any more, and it was given back. */
  constructor(seat: Seat, leave: () => void) {
    this.#seat = seat;
    this.#leave = leave;
    const read = () => this.#read();
    const [left, shown] = [() => this.#leavePage(), () => this.#showPage()];
    globalThis.addEventListener?.("pagehide", left);
    globalThis.addEventListener?.("pageshow", shown);
    this.#offs = [
      seat.on("change", read),
      seat.on("renewed", read),
      seat.on("wait", ({ error }) => this.#show({ position: (error as { position?: number }).position })),
      () => globalThis.removeEventListener?.("pagehide", left),
      () => globalThis.removeEventListener?.("pageshow", shown),
    ];
  }

  get now(): SeatNow {
    return this.#now;
  }

  get seat(): Seat {
    return this.#seat;
  }

  /** Calls whenever `now` is another; until what this returns is called. */
  watch(call: () => void): () => void {
    this.#watchers.add(call);
    return () => {
      this.#watchers.delete(call);
      this.#lookLater();
    };
  }

  on<K extends keyof Events>(name: K, call: (event: Events[K]) => void): () => void {
    return this.#seat.on(name, call);
  }

  /** Wants it, until what this returns is called. */
  want(how: Wanting): () => void {
    const wish = { ...how };
    this.#wants.add(wish);
    if (!this.#call && !this.#seat.held) void this.#ask(wish);
    return () => {
      this.#wants.delete(wish);
      this.#lookLater();
    };
  }

  /** Asks for it by hand, in place of a request that is under way. Tells whether it is held; why not is in `now`. */
  acquire(options: AcquireOptions = {}): Promise<boolean> {
    if (!this.#watchers.size) return Promise.resolve(false); // nobody is left to give it back
    this.#byHand = true;
    return this.#ask(options);
  }

  /** Gives it back for all components, though they still want it: until one of them asks by hand, or another is mounted. */
  release(): Promise<boolean> {
    this.#byHand = this.#cutOff = false;
    const call = this.#call;
    this.#call = undefined;
    call?.abort();
    this.#show({ pending: false, position: undefined, error: undefined });
    return this.#seat.release();
  }

  #ask(options: AcquireOptions): Promise<boolean> {
    return (this.#asking = this.#askNow(options));
  }

  async #askNow({ signal, ...options }: AcquireOptions): Promise<boolean> {
    this.#call?.abort();
    const call = (this.#call = new AbortController());
    const abort = () => call.abort();
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort);
    const timesLeft = this.#timesLeft;
    this.#cutOff = false;
    this.#show({ pending: true, position: undefined, error: undefined });
    let error: SojournError | undefined;
    try {
      await this.#seat.acquire({ ...options, signal: call.signal });
    } catch (fault) {
      error = fault as SojournError;
    }
    signal?.removeEventListener("abort", abort);
    if (this.#call !== call) return this.#call ? this.#asking! : this.#seat.held; // another one took its place, or its end
    this.#call = undefined;
    this.#cutOff = error?.code === "aborted" && !call.signal.aborted && timesLeft !== this.#timesLeft;
    if (call.signal.aborted || this.#cutOff) error = undefined;
    this.#show({ pending: false, position: undefined, error });
    this.#askAnew();
    return this.#seat.held;
  }

  #leavePage(): void {
    this.#left = true;
    this.#timesLeft++;
  }

  #showPage(): void {
    this.#left = false;
    this.#read();
    this.#askAnew();
  }

  /** A page that is left calls off what it has asked for; shown again, it asks anew. */
  #askAnew(): void {
    const [wish] = this.#wants;
    if (this.#cutOff && !this.#left && (wish || this.#byHand)) void this.#ask(wish ?? {});
  }

  #read(): void {
    this.#show({});
  }

  #show(more: Partial<SeatNow>): void {
    const { state, reason, held, expiresIn } = this.#seat;
    const now = { ...this.#now, state, reason, held, ...more };
    clearTimeout(this.#timer);
    // What trusts a lease until then is told of its end also where whoever keeps it says nothing.
    if (held && this.#watchers.size) {
      this.#timer = setTimeout(() => this.#read(), expiresIn * 1000 + 1);
      (this.#timer as { unref?: () => void }).unref?.(); // a test in Node does not wait for it
    }
    if (isSame(now, this.#now)) return;
    this.#now = now;
    for (const call of [...this.#watchers]) call();
  }

  /** Looks whether anybody wants it still, once what is under way is done. */
  #lookLater(): void {
    if (this.#looks) return;
    this.#looks = true;
    queueMicrotask(() => {
      this.#looks = false;
      if (this.#wants.size || (this.#byHand && this.#watchers.size)) return;
      const given = this.#call || this.#seat.state !== "new" ? this.release() : Promise.resolve(true);
      if (!this.#watchers.size) void given.then(() => this.#end());
    });
  }

  #end(): void {
    if (this.#ended || this.#watchers.size || this.#wants.size) return; // somebody came meanwhile
    this.#ended = true;
    clearTimeout(this.#timer);
    for (const off of this.#offs) off();
    this.#seat.close();
    this.#leave();
  }
}
