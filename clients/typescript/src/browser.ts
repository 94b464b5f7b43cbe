import { aborted, type Fault, faultOf, refusal, SeatLost, type SojournError } from "./errors.js";
import { Emitter } from "./emitter.js";
import { newId } from "./http.js";
import { isHeld, type OwnSeat } from "./seat.js";
import type { AcquireOptions, Events, Saved, Seat, State } from "./terms.js";

/** What the leader knows, as others are told it. Instants are of `Date.now()`, which all tabs share. */
interface View {
  state: State;
  reason: string;
  until: number;
  /** It is held, or there is a way back: whoever leads next goes on with it. */
  saved?: Saved;
}

interface Ask {
  t: "ask";
  from: string;
  n: number;
  verb: "acquire" | "release" | "cancel";
  options?: AcquireOptions;
}

interface Result {
  fault?: Fault;
  confirmed?: boolean;
}

interface Reply extends Result {
  t: "done";
  to: string;
  n: number;
}

type Told =
  | { t: "view"; view: View; resumed?: boolean }
  | { t: "event"; name: "needed" | "sessionExpired" }
  | { t: "wait"; to: string; nextIn: number; fault: Fault }
  | { t: "lead" }
  | { t: "here"; from: string; wants: boolean }
  | { t: "bye"; from: string }
  | Ask
  | Reply;

/**
 * Follows a page: it is left, it is shown again after that, and it may have slept. Elsewhere: nothing. `life` ends it: it
 * has a `signal`, as options of a listener have.
 */
export function onPage(life: AbortController, left: () => void, shown: () => void, woken: () => void): void {
  const window = globalThis.document?.defaultView;
  window?.addEventListener("pagehide", left, life);
  window?.addEventListener("pageshow", ({ persisted }) => persisted && shown(), life);
  window?.addEventListener("online", woken, life);
  window?.addEventListener("focus", woken, life);
}

/**
 * One lease for all tabs of a browser. One tab leads: it holds the lock, the lease and the socket, and tells the
 * others. When it closes, the next one goes on with its lease. The seat is given back when no tab wants it any more.
 */
export class BrowserSeat extends Emitter<Events> implements Seat {
  #view: View = { state: "new", reason: "new", until: 0 };
  #own?: OwnSeat;
  #channel?: BroadcastChannel; // once this tab may speak
  #leave?: AbortController; // while it takes part
  readonly #life = new AbortController(); // ends as it is closed
  #wants = false;
  #acquiring: Promise<unknown> = Promise.resolve();
  #n = 0;
  readonly #id = ` ${newId()}`; // as it follows the name
  readonly #tabs = new Map<string, boolean>(); // those that came later, and whether they want the seat
  readonly #asked = new Map<number, { ask: Ask; done: (reply: Result) => unknown }>();
  readonly #calls = new Map<string, AbortController>();

  constructor(
    private readonly name: string,
    private readonly make: () => OwnSeat,
  ) {
    super();
    onPage(
      this.#life,
      () => this.#part(),
      () => this.#join(),
      () => this.#own?.nudge(),
    );
    this.#join();
  }

  /** Whether this tab holds the lease for all. */
  get leads(): boolean {
    return !!this.#own;
  }

  get #now(): View {
    const own = this.#own;
    return own ? { state: own.state, reason: own.reason, until: Date.now() + own.expiresIn * 1000, saved: own.saved } : this.#view;
  }

  get state(): State {
    const { state, until } = this.#now;
    return isHeld(state) && Date.now() >= until ? "lost" : state;
  }

  get reason(): string {
    return this.#now.reason;
  }

  get held(): boolean {
    return this.#wants && isHeld(this.state);
  }

  get expiresIn(): number {
    return this.held ? (this.#now.until - Date.now()) / 1000 : 0;
  }

  get leaseId(): string | undefined {
    return this.#now.saved?.leaseId;
  }

  get fence(): number | undefined {
    return this.#now.saved?.fence;
  }

  check(): void {
    if (!this.held) throw new SeatLost(this.reason, !!this.#now.saved);
  }

  async acquire({ signal, ...options }: AcquireOptions = {}): Promise<void> {
    if (signal?.aborted || this.#life.signal.aborted) throw aborted();
    this.#want(true);
    const n = ++this.#n;
    const lessen = () => this.#asked.size || this.#want(false); // another call's wish goes on
    const call = () => {
      this.#asked.get(n)?.done({ fault: faultOf(aborted()) });
      lessen();
      this.#tell({ t: "ask", from: this.#id, n, verb: "cancel" });
    };
    signal?.addEventListener("abort", call);
    const { fault } = await this.#ask(n, "acquire", options);
    signal?.removeEventListener("abort", call);
    if (!fault) return;
    if (!signal?.aborted) lessen();
    throw refusal(...fault);
  }

  async release(): Promise<boolean> {
    if (!this.#wants) return true;
    this.#want(false);
    const { confirmed } = await this.#ask(++this.#n, "release");
    return !!confirmed;
  }

  /** Leaves for good. The last tab that needed the seat says goodbye. */
  close(): void {
    this.#life.abort();
    this.#wants = false;
    this.#part();
    for (const { done } of this.#asked.values()) done({ fault: faultOf(aborted()) });
    this.#hear({ t: "view", view: { state: "released", reason: "closing", until: 0 } });
  }

  /** Takes part no more, until the page is shown again. */
  #part(): void {
    const own = this.#own;
    const view = this.#now;
    if (own) {
      if (this.#others) own.leave();
      else {
        own.goodbye();
        view.until = 0;
        this.#say({ t: "view", view: this.#now }); // there is nothing for others to go on with
      }
    }
    this.#view = view;
    this.#own = undefined;
    this.#say({ t: "bye", from: this.#id });
    this.#leave?.abort();
    this.#channel = this.#leave = undefined;
    for (const control of this.#calls.values()) control.abort();
    this.#calls.clear();
    this.#tabs.clear();
  }

  #join(): void {
    if (this.#leave) return;
    const { signal } = (this.#leave = new AbortController());
    const channel = new BroadcastChannel(this.name);
    channel.onmessage = ({ data }) => this.#hear(data as Told);
    signal.addEventListener("abort", () => channel.close());
    const lock = (name: string, got: () => void) => {
      const granted = () =>
        signal.aborted ||
        new Promise((unlock) => {
          signal.addEventListener("abort", unlock);
          got();
        });
      navigator.locks.request(name, { signal }, granted).catch(() => {
        if (signal.aborted) return;
        // Where locks are refused, so is what tabs share: this one is alone.
        this.#channel = undefined;
        channel.close();
        this.#lead();
      });
    };
    // Its own lock tells that a tab is there: whoever gets it knows that the tab is gone, however it went. So nothing is
    // said before.
    lock(this.name + this.#id, () => {
      this.#channel = channel;
      this.#hear({ t: "lead" });
      lock(this.name, () => this.#lead());
    });
  }

  #lead(): void {
    if (this.#own) return;
    const own = this.make();
    const { saved, until } = this.#view;
    const tell = (told: Told) => this.#own === own && this.#tell(told);
    own.on("change", ({ resumed }) => tell({ t: "view", view: this.#now, resumed }));
    own.on("renewed", () => tell({ t: "view", view: this.#now }));
    for (const name of ["needed", "sessionExpired"] as const) own.on(name, () => tell({ t: "event", name }));
    this.#own = own;
    if (saved) void own.adopt(saved, (until - Date.now()) / 1000);
    this.#tell({ t: "lead" });
    for (const from of this.#tabs.keys()) this.#watch(from);
    if (saved && !this.#wanted) void own.release();
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

  #ask(n: number, verb: "acquire" | "release", options?: AcquireOptions): Promise<Result> {
    const ask = { t: "ask" as const, from: this.#id, n, verb, options };
    return new Promise((resolve) => {
      this.#asked.set(n, { ask, done: (reply) => this.#asked.delete(n) && resolve(reply) });
      this.#tell(ask);
    });
  }

  #hear(told: Told): void {
    switch (told.t) {
      case "view": {
        const { state: before, saved } = this.#view;
        const { state, reason } = (this.#view = told.view);
        const turned = state === "lost" && saved && !told.view.saved; // there is no way back any more
        if (before !== state || told.resumed || turned)
          this.emit("change", { before, state, reason, resumed: !!told.resumed });
        else if (isHeld(state)) this.emit("renewed");
        break;
      }
      case "event":
        this.emit(told.name);
        break;
      case "wait":
        if (told.to === this.#id)
          this.emit("wait", { error: refusal(...told.fault), nextIn: told.nextIn });
        break;
      case "lead": // what was asked of the one before may have died with it
        this.#want(this.#wants);
        for (const { ask } of this.#asked.values()) this.#tell(ask);
        break;
      case "here":
        if (!this.#tabs.has(told.from) && this.#own) this.#watch(told.from);
        this.#tabs.set(told.from, told.wants);
        break;
      case "bye":
        this.#miss(told.from);
        break;
      case "ask":
        if (this.#own) void this.#serve(told);
        break;
      case "done":
        if (told.to === this.#id) this.#asked.get(told.n)?.done(told);
    }
  }

  #want(wants: boolean): void {
    this.#wants = wants;
    this.#say({ t: "here", from: this.#id, wants });
  }

  /** Tells another tab how things stand, and learns when it is gone; for the leader. */
  #watch(from: string): void {
    this.#say({ t: "view", view: this.#now });
    navigator.locks.request(this.name + from, this.#leave!, () => this.#miss(from)).catch(() => {});
  }

  #miss(from: string): void {
    this.#tabs.delete(from);
    for (const [key, control] of this.#calls) if (key.startsWith(from)) control.abort();
    if (!this.#wanted) void this.#own?.release();
  }

  get #others(): boolean {
    return [...this.#tabs.values()].includes(true);
  }

  get #wanted(): boolean {
    return this.#wants || this.#others;
  }

  /** Does what a tab asks for; for the leader. */
  async #serve({ from, n, verb, options }: Ask): Promise<void> {
    const own = this.#own!;
    const key = from + n;
    const answer = (more: Result) => this.#tell({ t: "done", to: from, n, ...more });
    if (verb === "cancel") {
      const call = this.#calls.get(key);
      if (call) call.abort();
      else if (!this.#wanted) void own.release(); // it was granted meanwhile
      return;
    }
    if (this.#calls.has(key)) return;
    if (verb === "release") return answer({ confirmed: this.#wanted || (await own.release()) });
    const control = new AbortController();
    this.#calls.set(key, control);
    const off = own.on("wait", ({ error, nextIn }) =>
      this.#tell({ t: "wait", to: from, nextIn, fault: faultOf(error) }),
    );
    // One after another: once it is granted to one it is held for all, or else each one's own wish is tried.
    this.#acquiring = this.#acquiring
      .then(() => own.acquire({ ...options, signal: control.signal }))
      .then(() => ({}), (fault: SojournError) => ({ fault: faultOf(fault) }))
      .then((more) => {
        off();
        if (this.#calls.get(key) !== control) return; // it leads no more: the next one is asked
        this.#calls.delete(key);
        answer(more);
      });
  }
}
