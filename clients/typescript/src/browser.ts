import { aborted, type Fault, faultOf, refusal, SeatLost, type SojournError } from "./errors.js";
import { Emitter } from "./emitter.js";
import { newId } from "./http.js";
import type { OwnSeat } from "./seat.js";
import type { AcquireOptions, Events, Saved, Seat, State } from "./terms.js";

/** What the leader knows, as others are told it. Instants are of `Date.now()`, which all tabs share. */
interface View {
  state: State;
  reason: string;
  until: number;
  saved?: Saved;
}

interface Ask {
  t: "ask";
  from: string;
  n: number;
  verb: "acquire" | "release" | "cancel";
  options?: AcquireOptions;
}

interface Reply {
  t: "done";
  to: string;
  n: number;
  fault?: Fault;
  confirmed?: boolean;
}

type Told =
  | { t: "view"; view: View; resumed?: boolean; reason?: string }
  | { t: "event"; name: "needed" | "sessionExpired" }
  | { t: "wait"; to: string; nextIn: number; fault: Fault }
  | { t: "lead" }
  | { t: "here"; from: string; wants: boolean }
  | { t: "bye"; from: string }
  | Ask
  | Reply;

/** Follows a page: it is left, it is shown again after that, and it may have slept. Elsewhere: nothing. */
export function onPage(left: () => void, shown: () => void, woken: () => void): void {
  const window = globalThis.document?.defaultView;
  if (!window) return;
  window.addEventListener("pagehide", left);
  window.addEventListener("pageshow", ({ persisted }) => persisted && shown());
  for (const name of ["online", "focus"]) window.addEventListener(name, woken);
}

/**
 * One lease for all tabs of a browser. One tab leads: it holds the lock, the lease and the socket, and tells the
 * others. When it closes, the next one goes on with its lease. The seat is given back when no tab wants it any more.
 */
export class BrowserSeat extends Emitter<Events> implements Seat {
  #view: View = { state: "new", reason: "new", until: 0 };
  #own?: OwnSeat;
  #channel?: BroadcastChannel;
  #unlock: (() => void)[] = [];
  #leave = new AbortController();
  #wants = false;
  #told: State = "new";
  #acquiring?: Promise<void>;
  #n = 0;
  readonly #id = newId();
  readonly #tabs = new Map<string, boolean>(); // for the leader: the others, and whether they want the seat
  readonly #asked = new Map<number, { ask: Ask; done: (reply: Reply) => void }>();
  readonly #calls = new Map<string, AbortController>();

  constructor(
    private readonly name: string,
    private readonly make: () => OwnSeat,
  ) {
    super();
    this.#join();
    onPage(
      () => this.close(),
      () => this.#join(),
      () => this.#own?.nudge(),
    );
  }

  /** Whether this tab holds the lease for all. */
  get leads(): boolean {
    return !!this.#own;
  }

  get state(): State {
    if (this.#own) return this.#own.state;
    const held = this.#view.state === "safe" || this.#view.state === "jeopardy";
    return held && Date.now() >= this.#view.until ? "lost" : this.#view.state;
  }

  get held(): boolean {
    const { state } = this;
    return this.#wants && (state === "safe" || state === "jeopardy");
  }

  get expiresIn(): number {
    return !this.held ? 0 : this.#own ? this.#own.expiresIn : (this.#view.until - Date.now()) / 1000;
  }

  get leaseId(): string | undefined {
    return this.#saved?.leaseId;
  }

  get fence(): number | undefined {
    return this.#saved?.fence;
  }

  get #saved(): Saved | undefined {
    return (this.#own ?? this.#view).saved;
  }

  check(): void {
    if (!this.held) throw new SeatLost(this.#own?.reason ?? this.#view.reason);
  }

  async acquire(options: AcquireOptions = {}): Promise<void> {
    const { signal, ...rest } = options;
    if (signal?.aborted) throw aborted();
    this.#wants = true;
    this.#say({ t: "here", from: this.#id, wants: true });
    const n = ++this.#n;
    const call = () => {
      this.#put({ t: "ask", from: this.#id, n, verb: "cancel" });
      this.#asked.get(n)?.done({ t: "done", to: this.#id, n, fault: faultOf(aborted()) });
    };
    signal?.addEventListener("abort", call);
    try {
      const { fault } = await this.#ask(n, "acquire", rest);
      if (fault) {
        this.#wants = false;
        throw refusal(...fault);
      }
    } finally {
      signal?.removeEventListener("abort", call);
    }
  }

  async release(): Promise<boolean> {
    if (!this.#wants) return true;
    this.#wants = false;
    const { confirmed } = await this.#ask(++this.#n, "release");
    return confirmed ?? false;
  }

  /** Leaves: this tab needs the seat no more. The last one says goodbye for all. */
  close(): void {
    const own = this.#own;
    this.#own = undefined;
    if (own && this.#tabs.size) {
      this.#view = this.#viewOf(own);
      own.leave();
      this.#say({ t: "view", view: this.#view });
    } else if (own) {
      this.#view = { ...this.#viewOf(own), until: 0 };
      own.goodbye();
    }
    this.#say({ t: "bye", from: this.#id });
    this.#leave.abort();
    this.#unlock.splice(0).forEach((unlock) => unlock());
    this.#channel?.close();
    this.#channel = undefined;
    this.#tabs.clear();
  }

  #join(): void {
    if (this.#channel) return;
    const channel = new BroadcastChannel(this.name);
    channel.onmessage = ({ data }) => this.#hear(data as Told);
    this.#channel = channel;
    this.#leave = new AbortController();
    // Its own lock tells that a tab is there: whoever gets it knows that the tab is gone, however it went.
    this.#lock(`${this.name} ${this.#id}`, () => this.#say({ t: "here", from: this.#id, wants: this.#wants }));
    this.#lock(this.name, () => this.#lead());
  }

  #lock(name: string, got: () => void): void {
    const { signal } = this.#leave;
    navigator.locks
      .request(name, { signal }, () => {
        if (signal.aborted) return;
        return new Promise<void>((unlock) => {
          this.#unlock.push(unlock);
          got();
        });
      })
      .catch(() => {}); // this tab has left
  }

  #lead(): void {
    const own = this.make();
    const { saved, state, until } = this.#view;
    own.on("change", ({ state, reason, resumed }) => {
      if (state !== "released" || reason !== "left") this.#tell({ t: "view", view: this.#viewOf(own), resumed, reason });
    });
    own.on("renewed", () => this.#tell({ t: "view", view: this.#viewOf(own) }));
    for (const name of ["needed", "sessionExpired"] as const) own.on(name, () => this.#tell({ t: "event", name }));
    this.#own = own;
    if (saved && (state === "safe" || state === "jeopardy")) void own.adopt(saved, (until - Date.now()) / 1000);
    this.#say({ t: "lead" });
    for (const { ask } of this.#asked.values()) this.#serve(ask);
  }

  #viewOf(own: OwnSeat): View {
    return { state: own.state, reason: own.reason, until: Date.now() + own.expiresIn * 1000, saved: own.saved };
  }

  // Between tabs

  #say(told: Told): void {
    this.#channel?.postMessage(told);
  }

  /** Tells others, and this tab. */
  #tell(told: Told): void {
    this.#say(told);
    this.#hear(told);
  }

  /** Brings a wish to the leader, wherever it is. */
  #put(ask: Ask): void {
    if (this.#own) this.#serve(ask);
    else this.#say(ask);
  }

  #ask(n: number, verb: "acquire" | "release", options?: AcquireOptions): Promise<Reply> {
    const ask = { t: "ask" as const, from: this.#id, n, verb, ...(options && { options }) };
    return new Promise((resolve) => {
      const done = (reply: Reply) => {
        this.#asked.delete(n);
        resolve(reply);
      };
      this.#asked.set(n, { ask, done });
      this.#put(ask);
    });
  }

  #hear(told: Told): void {
    switch (told.t) {
      case "view": {
        const { state, reason } = (this.#view = told.view);
        const before = this.#told;
        this.#told = state;
        if (before !== state || told.resumed)
          this.emit("change", { before, state, reason: told.reason ?? reason, resumed: !!told.resumed });
        else this.emit("renewed", undefined);
        break;
      }
      case "event":
        this.emit(told.name, undefined);
        break;
      case "wait":
        if (told.to === this.#id)
          this.emit("wait", { error: refusal(...told.fault), nextIn: told.nextIn });
        break;
      case "lead": // what was asked of the one before may have died with it
        this.#say({ t: "here", from: this.#id, wants: this.#wants });
        for (const { ask } of this.#asked.values()) this.#say(ask);
        break;
      case "here":
        if (this.#own) this.#meet(this.#own, told.from, told.wants);
        break;
      case "bye":
        this.#miss(told.from);
        break;
      case "ask":
        if (this.#own) this.#serve(told);
        break;
      case "done":
        if (told.to === this.#id) this.#asked.get(told.n)?.done(told);
    }
  }

  /** Notes another tab, for the leader; who is new is told how things stand, and watched. */
  #meet(own: OwnSeat, from: string, wants: boolean): void {
    const known = this.#tabs.has(from);
    this.#tabs.set(from, wants);
    if (known) return;
    this.#say({ t: "view", view: this.#viewOf(own) });
    navigator.locks.request(`${this.name} ${from}`, { signal: this.#leave.signal }, () => this.#miss(from)).catch(() => {});
  }

  #miss(from: string): void {
    const wanted = this.#tabs.get(from);
    this.#tabs.delete(from);
    for (const [key, control] of this.#calls) if (key.startsWith(from)) control.abort();
    if (wanted && !this.#wanted) void this.#own?.release();
  }

  get #wanted(): boolean {
    return this.#wants || [...this.#tabs.values()].some(Boolean);
  }

  /** Does what a tab asks for; for the leader. */
  #serve({ from, n, verb, options }: Ask): void {
    const own = this.#own!;
    const key = `${from} ${n}`;
    const answer = (more: { fault?: Fault; confirmed?: boolean }) => this.#tell({ t: "done", to: from, n, ...more });
    if (verb === "cancel") {
      this.#calls.get(key)?.abort();
      return;
    }
    if (this.#calls.has(key)) return;
    if (from !== this.#id) this.#meet(own, from, verb === "acquire");
    if (verb === "release") {
      if (this.#wanted) answer({ confirmed: true });
      else void own.release().then((confirmed) => answer({ confirmed }));
      return;
    }
    const control = new AbortController();
    this.#calls.set(key, control);
    const off = own.on("wait", ({ error, nextIn }) =>
      this.#tell({ t: "wait", to: from, nextIn, fault: faultOf(error) }),
    );
    this.#acquire(own, { ...options, signal: control.signal })
      .then(
        () => answer({}),
        (fault: SojournError) => {
          if (this.#tabs.has(from)) this.#tabs.set(from, false);
          answer({ fault: faultOf(fault) });
        },
      )
      .finally(() => {
        off();
        this.#calls.delete(key);
      });
  }

  /** Acquires once for all who ask meanwhile; if that fails, each one's own wish is tried in its turn. */
  async #acquire(own: OwnSeat, options: AcquireOptions): Promise<void> {
    while (this.#acquiring) {
      const granted = await this.#acquiring.then(
        () => true,
        () => false,
      );
      if (granted) return;
    }
    this.#acquiring = own.acquire(options);
    try {
      await this.#acquiring;
    } finally {
      this.#acquiring = undefined;
    }
  }
}
