import type { Clock } from "./clock.js";
import { type Problem, refusal, SojournError, unreachable } from "./errors.js";

export const SEATS = "/api/licenses/sessions";
export const BEAT = `${SEATS}/heartbeat`;
export const CURRENT = `${SEATS}/current`;
/** Milliseconds after which a server that does not answer counts as away. */
export const PATIENCE = 10_000;

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

export interface Call {
  /** POST unless it is said. */
  method?: string;
  path: string;
  proof?: string;
  body?: object;
  /** Names the request: a copy under the same key is given the first answer. */
  key?: string;
  headers?: Record<string, string>;
  /** Milliseconds. */
  timeout?: number;
  keepalive?: boolean;
}

export interface Answer<T> {
  data: T;
  /** When the request left, by the clock: nothing that the answer says is certain from later on. */
  sentAt: number;
}

/** The way to one server: each call is one attempt, bounded in time. */
export class Http {
  readonly url: string;

  constructor(
    url: string,
    readonly clock: Clock,
    private readonly fetch: Fetch = (to, init) => globalThis.fetch(to, init),
  ) {
    this.url = url.replace(/\/+$/, "");
  }

  async call<T>({ method = "POST", path, proof, body, key, headers, timeout = PATIENCE, keepalive }: Call): Promise<Answer<T>> {
    const sentAt = this.clock.now();
    const control = new AbortController();
    const calledOff = this.clock.after(timeout, () => control.abort());
    try {
      const answer = await this.fetch(this.url + path, {
        method,
        headers: {
          ...(proof && { Authorization: `Bearer ${proof}` }),
          ...(body && { "Content-Type": "application/json" }),
          ...(key && { "Idempotency-Key": key }),
          ...headers,
        },
        body: body && JSON.stringify(body),
        signal: control.signal,
        credentials: "omit",
        redirect: "error",
        keepalive,
      });
      const said = (await answer.json()) as { success?: boolean; data: T } & Partial<Problem>;
      if (answer.ok && said.success) return { data: said.data, sentAt };
      if (!answer.ok && said.code) throw refusal(answer.status, said, Number(answer.headers.get("retry-after")) || undefined);
    } catch (fault) {
      if (fault instanceof SojournError) throw fault;
    } finally {
      calledOff();
    }
    throw unreachable(`No answer from ${this.url}.`);
  }
}

/** Makes an id that is nobody else's. `crypto.randomUUID` is missing where a page is not secure. */
export function newId(): string {
  return crypto.getRandomValues(new Uint32Array(4)).reduce((id, part) => id + part.toString(36), "");
}
