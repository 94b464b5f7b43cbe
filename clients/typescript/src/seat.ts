import { Emitter } from "./emitter.js";
import { aborted, SeatDenied, SeatLost, SojournError, unreachable } from "./errors.js";
import type { components } from "./generated.js";
import { BEAT, CURRENT, newId, PATIENCE, SEATS } from "./http.js";
import { openSocket, type Said, type Socket } from "./socket.js";
import { BACKOFF_MAX, CONFIRM, FINAL, QUIET, RESTART_MS, RETRIES, RETRY_MS, SOCKET_BACKOFF_MAX, TELL_EVERY, THROTTLED, TRUSTED, WAIT_MAX } from "./limits.js";
import type { AcquireOptions, Events, Means, Saved, Seat, SeatOptions, State } from "./terms.js";

type Schemas = components["schemas"];

export const isHeld = (state: State) => state === "safe" || state === "jeopardy";

/** One lease, kept by this program alone. Browsers' tabs share one: see `BrowserSeat`. */
export class OwnSeat extends Emitter<Events> implements Seat {
  readonly #means: Means;
  #state: State = "new";
  #reason = "new";
  #grant?: Saved;
  #safeUntil = -Infinity;
  #due = Infinity;
  #turn = 0;
  #busy?: number; // the turn that is at work
  #gone = false;
  #resumable = false;
  #failures = 0;
  #socket?: Socket;
  #socketAt = 0;
  #socketFailures = 0;
  #heardAt = 0;
  #toldAt = 0; // how long the lease is certain, on the socket
  #timer?: () => void;
  #callOff?: () => void;
  /** Over as it is closed: whatever follows the page on its behalf ends with that. */
  readonly life = new AbortController();
  /** Says for how many seconds the person has done nothing; asked at each beat. */
  idle?: () => number;

  constructor(
    means: Means,
    readonly options: SeatOptions & { clientId: string },
  ) {
    super();
    this.#means = means;
  }

  get #http() {
    return this.#means.http;
  }

  get #clock() {
    return this.#http.clock;
  }

  get #now() {
    return this.#clock.now();
  }

  get state(): State {
    if (!isHeld(this.#state)) return this.#state;
    const now = this.#now;
    if (now >= this.#safeUntil) return "lost";
    return now >= this.#due + this.#interval / 2 ? "jeopardy" : this.#state;
  }

  get held(): boolean {
    return isHeld(this.state);
  }

  get reason(): string {
    return this.#state !== this.state ? "unreachable" : this.#reason;
  }

  get expiresIn(): number {
    return this.held ? (this.#safeUntil - this.#now) / 1000 : 0;
  }

  get leaseId(): string | undefined {
    return this.#grant?.leaseId;
  }

  get fence(): number | undefined {
    return this.#grant?.fence;
  }

  /** Undefined, too, after a loss that is not to be undone. */
  get saved(): Saved | undefined {
    return this.#due < Infinity ? this.#grant && { ...this.#grant } : undefined;
  }

  check(): void {
    if (!this.held) throw new SeatLost(this.reason, this.#due < Infinity);
  }

  async acquire(options: AcquireOptions = {}): Promise<void> {
    if (this.held) return;
    const { signal } = options;
    if (signal?.aborted || this.life.signal.aborted) throw aborted();
    this.#stop();
    const asked = this.#ask(this.#turn, options);
    // The request goes on: what it grants after all is given back, so that nobody waits for a ghost.
    return new Promise((resolve, reject) => {
      this.#callOff = () => reject(aborted());
      signal?.addEventListener("abort", this.#callOff);
      asked.then(resolve, reject);
    });
  }

  async release(): Promise<boolean> {
    const token = this.#end("released");
    return !token || this.#giveBack(token);
  }

  /** Says that the program ends: the seat lingers for a few seconds, for whoever comes back (`adopt`). */
  goodbye(): Saved | undefined {
    const { saved } = this;
    this.#socket?.say({ type: "goodbye" });
    const token = this.#end("closing");
    if (!token) return undefined;
    if (!this.#means.beacon?.(this.#http.url + BEAT, JSON.stringify({ closing: true, token })))
      this.#http
        .call({ path: BEAT, proof: token, body: { closing: true }, keepalive: true })
        .catch(() => {}); // nobody is left to try again
    return saved;
  }

  close(): void {
    this.life.abort();
    this.goodbye();
  }

  /** Lets go without a word: somebody else goes on with what this returns. */
  leave(): Saved | undefined {
    const { saved } = this;
    return this.#end("left") ? saved : undefined;
  }

  /** Goes on with a lease of before, and tells whether it is held. `trusted`: seconds for which it surely is. */
  async adopt(saved: Saved, trusted = 0): Promise<boolean> {
    if (this.life.signal.aborted) return false;
    this.#stop();
    const turn = this.#turn;
    // The goodbye of whoever had it may arrive after our first word, and would have the last one.
    this.#clock.after(CONFIRM, () => void (turn === this.#turn && this.held && this.#beat(turn).then(() => this.#plan())));
    this.#grant = { ...saved };
    this.#state = trusted > 0 ? "safe" : "lost";
    this.#reason = "adopted";
    this.#due = this.#now;
    this.#safeUntil = this.#due + Math.min(trusted, saved.lostAfter) * 1000;
    await this.#tick();
    return this.held;
  }

  /** Looks at once whether the seat is still there, after what may have been a sleep. */
  nudge(): void {
    const stale = this.#now - this.#heardAt > TELL_EVERY + RETRY_MS;
    if (this.#grant && this.#due < Infinity && (stale || !this.#socket)) this.#due = this.#now;
    void this.#tick();
  }

  #become(state: State, reason: string, resumed = false, told = resumed): void {
    const before = this.#state;
    this.#state = state;
    this.#reason = reason;
    if (before !== state || told) this.emit("change", { before, state, reason, resumed });
  }

  // Asking

  async #ask(turn: number, { takeover, wait = 0, signal }: AcquireOptions): Promise<void> {
    const until = this.#now + wait * 1000;
    let [key, failures, left, most] = [newId(), 0, wait, 1]; // the first answer is to say the place, soon
    const over = () => turn !== this.#turn || signal?.aborted;
    for (;;) {
      const body = { ...this.#wish, takeover, wait: Math.min(left, most) || undefined };
      let pause: number;
      try {
        const { data, sentAt } = await this.#http.call<Schemas["SeatBody"]>({
          path: SEATS,
          proof: await this.#proof(),
          body,
          key,
          timeout: PATIENCE + (left > 0 ? WAIT_MAX * 1000 : 0),
        });
        if (over()) {
          void this.#giveBack(data.token);
          break;
        }
        this.#granted(data, sentAt, false);
        return;
      } catch (fault) {
        if (!(fault instanceof SojournError)) throw fault;
        if (over()) break;
        const now = this.#now;
        if (fault instanceof SeatDenied) {
          if (now >= until) throw fault;
          key = newId(); // that was an answer: the next one is another request
          left = (until - now) / 1000;
          failures = 0;
          most = WAIT_MAX;
          pause = (fault.retryAfter ?? 1) * 1000 * (fault.position ? 1 : 1 + this.#clock.random() / 10);
          pause = Math.max(100, Math.min(pause, until - now));
        } else {
          if (!fault.passing || ++failures > RETRIES) throw fault;
          pause = Math.min((fault.retryAfter ?? RETRY_MS / 1000) * 1000, BACKOFF_MAX);
        }
        this.emit("wait", { error: fault, nextIn: pause / 1000 });
      }
      await this.#pause(pause);
      if (over()) break;
    }
    throw aborted();
  }

  /** Asks for the proof: whoever brings it may be away for a moment, as servers are. */
  async #proof(): Promise<string> {
    try {
      return await this.#means.proof();
    } catch (fault) {
      throw fault instanceof SojournError ? fault : unreachable(String(fault));
    }
  }

  get #wish() {
    return { ...this.options, presence: undefined, resume: undefined };
  }

  get #bySocket() {
    return this.options.presence !== "beats" && this.#means.socket;
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => void this.#clock.after(ms, resolve));
  }

  async #giveBack(token: string): Promise<boolean> {
    for (let tries = 0; ; tries++) {
      try {
        await this.#http.call({ method: "DELETE", path: CURRENT, proof: token, keepalive: true });
        return true;
      } catch (fault) {
        if (!(fault as SojournError).passing || tries === RETRIES) return false;
      }
      await this.#pause(RETRY_MS);
    }
  }

  // Keeping

  get #interval(): number {
    return this.#grant!.heartbeatInterval * 1000;
  }

  /** Milliseconds between two words of a server. */
  get #pace(): number {
    return Math.min(TELL_EVERY, this.#interval);
  }

  #plan(): void {
    this.#timer?.();
    const now = this.#now;
    const next = this.held ? Math.min(this.#due, this.#safeUntil, this.#state === "safe" ? this.#due + this.#interval / 2 : Infinity) : this.#due;
    if (next < Infinity && !(this.#busy === this.#turn && next <= now)) this.#timer = this.#clock.after(Math.max(0, next - now), () => void this.#tick());
  }

  async #tick(): Promise<void> {
    const seen = this.state;
    if (seen !== this.#state) this.#become(seen, seen === "lost" ? "unreachable" : "overdue");
    const turn = this.#turn;
    if (this.#busy !== turn && this.#now >= this.#due) {
      this.#busy = turn;
      try {
        await this.#work(turn);
      } finally {
        if (this.#busy === turn) this.#busy = undefined;
      }
    }
    this.#plan();
  }

  async #work(turn: number): Promise<void> {
    const now = this.#now;
    if (this.#gone) return this.#comeBack(turn);
    if (this.#socket) {
      if (now - this.#heardAt < QUIET * this.#pace) {
        this.#due = this.#heardAt + QUIET * this.#pace;
        return;
      }
      this.#hangUp();
    }
    if (this.#bySocket && now >= this.#socketAt) {
      const opened = await this.#open(turn);
      if (opened || turn !== this.#turn) return;
      if (this.#gone) return this.#due < Infinity ? this.#comeBack(turn) : undefined;
    }
    await this.#beat(turn);
  }

  async #beat(turn: number): Promise<void> {
    const { token } = this.#grant!;
    const hidden = this.#means.hidden?.();
    const body = {
      idleFor: this.idle?.(),
      nextIn: hidden ? Math.max(this.#interval / 1000, THROTTLED) : undefined,
    };
    const timeout = Math.max(1_000, Math.min(PATIENCE, this.#interval));
    try {
      const { data, sentAt } = await this.#http.call<Schemas["BeatBody"]>({ path: BEAT, proof: token, body, timeout });
      if (turn !== this.#turn) return;
      const away = this.#failures > 0;
      this.#renewed(data.expiresIn, sentAt);
      // The server is back, and knows of no socket: who needs a seat would have this one.
      if (away && this.#bySocket && !this.#socket) this.#due = this.#socketAt = this.#now;
    } catch (fault) {
      if (turn === this.#turn) await this.#refusedBeat(turn, fault as SojournError);
    }
  }

  async #refusedBeat(turn: number, fault: SojournError): Promise<void> {
    if (fault instanceof SeatLost) this.#refused(fault.reason, fault.resumable);
    else if (fault.status === 403) this.#refused(fault.code);
    else if (fault.status === 401) this.#refused("unproven");
    else return this.#failed(fault.code, fault.retryAfter);
    if (this.#due < Infinity) await this.#comeBack(turn);
  }

  #granted(data: Schemas["SeatBody"], sentAt: number, resumed: boolean): void {
    this.#grant = data;
    this.#gone = false;
    this.#socketAt = 0;
    this.#extend(data.expiresIn, sentAt);
    if (this.#bySocket) this.#due = this.#now;
    this.#become("safe", resumed ? "resumed" : "granted", resumed);
    this.#plan();
  }

  #renewed(expiresIn: number, sentAt: number): void {
    this.#extend(expiresIn, sentAt);
    this.#become("safe", this.#reason === "adopted" ? this.#reason : "renewed");
  }

  #extend(expiresIn: number, from: number): void {
    const trusted = Math.min(expiresIn, this.#grant!.lostAfter) * TRUSTED;
    this.#failures = 0;
    this.#safeUntil = Math.max(this.#safeUntil, from + trusted);
    this.#due = this.#socket ? this.#heardAt + QUIET * this.#pace : from + Math.min(this.#interval * (0.9 + this.#clock.random() / 5), trusted / 2);
    this.emit("renewed");
  }

  #failed(reason: string, wait = 0): void {
    const now = this.#now;
    const left = this.held ? (this.#safeUntil - now) / 3 : Infinity;
    const most = Math.min(BACKOFF_MAX, Math.max(1_000, this.#interval), left);
    const backoff = this.#clock.random() * Math.min(most, 500 * 2 ** Math.min(this.#failures++, 16));
    const least = Math.max(100, Math.min(1_000, this.#grant!.lostAfter * 11));
    this.#due = now + Math.max(least, backoff, Math.min(wait * 1000, most));
    if (this.held || this.#state !== "lost") this.#become(this.held ? "jeopardy" : "lost", reason);
  }

  #refused(reason: string, resumable = false, final = FINAL.test(reason) || this.options.resume === false): void {
    const turned = final && this.#due < Infinity;
    this.#hangUp();
    this.#safeUntil = -Infinity;
    this.#gone = true;
    this.#resumable = resumable;
    this.#due = final ? Infinity : this.#now;
    if (final || this.#state !== "lost") this.#become("lost", reason, false, turned);
    this.#reason = reason;
    this.#plan();
  }

  async #comeBack(turn: number): Promise<void> {
    const { device } = this.options;
    const resume = this.#resumable;
    try {
      const proof = resume ? this.#grant!.token : await this.#proof();
      const body = resume ? { device } : this.#wish;
      const { data, sentAt } = await this.#http.call<Schemas["SeatBody"]>({ path: SEATS, proof, body });
      if (turn === this.#turn) this.#granted(data, sentAt, true);
      else void this.#giveBack(data.token);
    } catch (caught) {
      const fault = caught as SojournError;
      if (turn !== this.#turn) return;
      this.#due = this.#now;
      if (fault instanceof SeatDenied) {
        this.#become("lost", "seat_limit");
        this.#due += Math.max(1, fault.retryAfter ?? 1) * 1000;
      } else if (fault.passing) this.#failed(fault.code, fault.retryAfter);
      else {
        const reason = (fault as Partial<SeatLost>).reason ?? fault.code;
        if (resume && fault.status !== 403 && !FINAL.test(reason)) this.#resumable = false; // with the key, at once
        else this.#refused(reason, false, true);
      }
    }
  }

  // The socket

  async #open(turn: number): Promise<boolean> {
    const { token } = this.#grant!;
    const sentAt = this.#now;
    const opened = await openSocket(
      this.#means.socket!,
      this.#http,
      token,
      (socket, message) => turn === this.#turn && (this.#socket ?? socket) === socket && this.#hear(socket, message, sentAt),
      (socket, code) => this.#socket === socket && this.#closed(code),
    );
    if (turn !== this.#turn) opened?.close();
    else if (opened) this.#socketFailures = 0;
    else this.#socketAt = this.#now + Math.min(SOCKET_BACKOFF_MAX, 1_000 * 2 ** this.#socketFailures++);
    return !!opened;
  }

  #hear(socket: Socket, said: Said, sentAt: number): void {
    const now = this.#now;
    const slept = this.#socket && now - this.#heardAt > QUIET * this.#pace;
    this.#heardAt = now;
    if (slept) {
      // Whatever waits here was said before a sleep, and may be true no more.
      this.#hangUp();
      this.#due = now;
      void this.#tick();
      return;
    }
    switch (said.type) {
      case "lost":
        return this.#refused(said.reason, said.resumable);
      case "superseded":
        return this.#refused("taken_over");
      case "open":
        this.#socket = socket;
        this.#adapt(said, now);
        this.#toldAt = now;
        this.#renewed(said.expiresIn, sentAt);
        break;
      case "policy":
        this.#adapt(said, now);
        break;
      case "alive": // if it comes late, it was perhaps said in time, and has waited since
        this.#renewed(said.expiresIn, Math.min(now, this.#toldAt + this.#pace));
        this.#toldAt = now;
        break;
      case "ask":
        socket.say({ type: "here" });
        break;
      case "needed":
        this.emit("needed");
        break;
      case "session_expired":
        this.emit("sessionExpired");
    }
    this.#due = now + QUIET * this.#pace;
    this.#plan();
  }

  #adapt({ heartbeatInterval, lostAfter }: { heartbeatInterval: number; lostAfter: number }, now: number): void {
    this.#grant = { ...this.#grant!, heartbeatInterval, lostAfter };
    this.#safeUntil = Math.min(this.#safeUntil, now + lostAfter * TRUSTED); // what a longer one promised is void
  }

  #closed(code: number): void {
    this.#socket = undefined;
    if (code === 4409) this.#refused("taken_over");
    else if (code === 4410) this.#refused("expired", true);
    else {
      this.#due = this.#now + (code === 1012 ? this.#clock.random() * Math.min(RESTART_MS, this.#interval / 2) : 0);
      this.#socketAt = 0;
      this.#plan();
    }
  }

  #hangUp(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.close();
  }

  /** Ends whatever is under way, and returns the token of what there is to give back. */
  #end(reason: string): string | undefined {
    const token = this.#gone ? undefined : this.#grant?.token;
    this.#stop();
    this.#grant = undefined;
    if (this.#state !== "new") this.#become("released", reason);
    return token;
  }

  #stop(): void {
    this.#turn++;
    this.#due = Infinity;
    this.#safeUntil = -Infinity;
    this.#gone = false;
    this.#failures = this.#socketFailures = this.#socketAt = 0;
    this.#timer?.();
    this.#callOff?.();
    this.#hangUp();
  }
}
