import { type Problem, refusal, SojournError, unreachable } from "./errors.js";
import type { components } from "./generated.js";

type Schemas = components["schemas"];
/** Somewhere a person is signed in. */
export type ActiveSession = Schemas["ActiveSession"];
type Page = Schemas["ActiveSessions"];

export interface SessionsOptions {
  /** Where the calls are; of the page's own origin unless it names another, which has to permit this one. */
  url?: string;
  /** A person's session token, where no cookie says who asks. */
  token?: () => string | Promise<string>;
  /** Seconds between two looks at the list while the page is visible; it is read again whenever somebody comes back. */
  every?: number;
  fetch?: (url: string, init: RequestInit) => Promise<Response>;
}

/** The list, as components show it. Another object whenever something of it is another. */
export interface SessionsNow {
  /** Newest first; undefined until the first answer. */
  readonly sessions?: readonly ActiveSession[];
  /** How many there are, with those that are not in the list yet. */
  readonly total: number;
  readonly hasMore: boolean;
  /** Words of the server's for people: that there is no other place, or that nothing was set up. */
  readonly message?: string;
  readonly canRename: boolean;
  readonly loading: boolean;
  /** Why the last request failed; `session_ended` and its like: the person has to sign in again. */
  readonly error?: SojournError;
}

export const UNREAD: SessionsNow = { total: 0, hasMore: false, canRename: false, loading: true };

const BASE = "/api/user/active-sessions";
const FIRST = 50;
const MOST = 200; // that a server lists at once
/** Seconds; who looks more often asks too much of a server. */
const EVERY_MIN = 5;
const PATIENCE = 15_000; // milliseconds

/** Where a person is signed in, for the components of one page. Asks for nothing before it is watched. */
export class SignedIn {
  readonly #options: SessionsOptions;
  readonly #watchers = new Set<() => void>();
  #now = UNREAD;
  #next: string | null = null;
  #turn = 0;
  #stop?: AbortController;

  constructor(options: SessionsOptions) {
    this.#options = options;
  }

  get now(): SessionsNow {
    return this.#now;
  }

  /** Calls whenever `now` is another; until what this returns is called. */
  watch(call: () => void): () => void {
    this.#watchers.add(call);
    if (!this.#stop) this.#start();
    return () => {
      this.#watchers.delete(call);
      if (this.#watchers.size) return;
      this.#stop?.abort();
      this.#stop = undefined;
    };
  }

  /** Reads the list anew, as far as it is shown. */
  async refresh(): Promise<void> {
    await this.#read(Math.min(MOST, Math.max(FIRST, this.#now.sessions?.length ?? 0)));
  }

  /** Reads the next ones. */
  async more(): Promise<void> {
    const shown = this.#now.sessions ?? [];
    if (this.#next) await this.#read(FIRST, this.#next, shown);
  }

  /** Signs out there; tells how many were signed out by it. The list is read anew. */
  async end(id: string): Promise<number> {
    return this.#change<Schemas["SignedOut"]>("DELETE", `/${encodeURIComponent(id)}`).then(({ ended }) => ended);
  }

  /** Signs out everywhere else; tells in how many places. */
  async endOthers(): Promise<number> {
    return this.#change<Schemas["SignedOut"]>("POST", "/logout-others").then(({ ended }) => ended);
  }

  /** Gives a device a name; null takes it back. */
  async rename(id: string, name: string | null): Promise<void> {
    await this.#change("PATCH", `/${encodeURIComponent(id)}`, { name });
  }

  #start(): void {
    const { signal } = (this.#stop = new AbortController());
    const { document } = globalThis;
    const look = () => document?.visibilityState !== "hidden" && void this.refresh();
    document?.addEventListener("visibilitychange", look, { signal });
    globalThis.addEventListener?.("pageshow", (event) => (event as PageTransitionEvent).persisted && look(), { signal });
    const { every } = this.#options;
    if (every) {
      const timer = setInterval(look, Math.max(EVERY_MIN, every) * 1000);
      signal.addEventListener("abort", () => clearInterval(timer));
    }
    void this.refresh();
  }

  async #read(limit: number, after?: string, before: readonly ActiveSession[] = []): Promise<void> {
    const turn = ++this.#turn;
    const signal = this.#stop?.signal;
    const isLate = () => turn !== this.#turn || signal?.aborted; // a later one has answered, or will
    this.#show({ loading: true });
    let more: Partial<SessionsNow>;
    try {
      const query = new URLSearchParams({ limit: String(limit), ...(after && { after }) });
      const { data, total, next, message, canRename } = await this.#call<Page>("GET", `?${query}`, undefined, signal);
      if (isLate()) return;
      this.#next = next;
      const known = new Set(data.map(({ id }) => id));
      const sessions = [...before.filter(({ id }) => !known.has(id)), ...data];
      more = { sessions, total, hasMore: next !== null, message: message ?? undefined, canRename: !!canRename, error: undefined };
    } catch (fault) {
      if (isLate()) return;
      more = { error: fault as SojournError };
    }
    this.#show({ ...more, loading: false });
  }

  async #change<T>(method: string, path: string, body?: object): Promise<T> {
    try {
      const { data } = await this.#call<{ data: T }>(method, path, body);
      return data;
    } finally {
      if (this.#stop) await this.refresh();
    }
  }

  async #call<T>(method: string, path: string, body?: object, stop?: AbortSignal): Promise<T> {
    const { url = BASE, token, fetch = (to, init) => globalThis.fetch(to, init) } = this.#options;
    const patience = AbortSignal.timeout(PATIENCE);
    try {
      const proof = await token?.();
      const answer = await fetch(url + path, {
        method,
        headers: {
          Accept: "application/json",
          ...(proof && { Authorization: `Bearer ${proof}` }),
          ...(body && { "Content-Type": "application/json" }),
        },
        ...(body && { body: JSON.stringify(body) }),
        cache: "no-store",
        credentials: proof ? "omit" : "include", // another origin is told only where it permits this one
        signal: stop ? AbortSignal.any([stop, patience]) : patience,
      });
      const said = (await answer.json()) as Partial<Problem> & { success?: boolean };
      if (answer.ok && said.success) return said as T;
      throw refusal(answer.status, said, Number(answer.headers.get("retry-after")) || undefined);
    } catch (fault) {
      throw fault instanceof SojournError ? fault : unreachable("The server did not answer.");
    }
  }

  #show(more: Partial<SessionsNow>): void {
    this.#now = { ...this.#now, ...more };
    for (const call of [...this.#watchers]) call();
  }
}
