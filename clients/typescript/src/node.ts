/** For servers: seats by heartbeats, and the sessions of an application's users, by its API key. */
import { randomBytes } from "node:crypto";
import { crc32 } from "node:zlib";
import type { components } from "./generated.js";
import { type Clock, systemClock } from "./clock.js";
import { SojournError } from "./errors.js";
import { type Call, type Fetch, Http, newId } from "./http.js";
import { BODY_MAX, type PeopleOptions, peoplesCalls } from "./people.js";

export * from "./index.js";

type Schemas = components["schemas"];
export type Session = Schemas["SessionBody"];
export type Begin = Schemas["BeginBody"];
export type Begun = Schemas["BegunAnswer"];

const BASE = "/api/sessions";
const CURRENT = `${BASE}/current`;
const AGAIN_MS = 250;
const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/**
 * Sessions that a Sojourn server keeps. Refusals are SojournErrors: `session_absent`, `session_idle`,
 * `session_expired`, `session_ended` and `session_forged` say that the person must sign in again, and why.
 */
export class Sessions {
  readonly #http: Http;
  readonly #key: string;

  /** `key`: an API key of the role `app`. */
  constructor({ url, key, fetch, clock = systemClock() }: { url: string; key: string; fetch?: Fetch; clock?: Clock }) {
    this.#http = new Http(url, clock, fetch);
    this.#key = key;
  }

  /** `replacing`: the token of the session that ends in the same step, and whose data goes along. */
  begin(wish: Begin, replacing?: string): Promise<Begun> {
    return this.#ask({ path: BASE, body: wish }, replacing);
  }

  async check(token: string, { touch = true } = {}): Promise<Session> {
    return (await this.#ask<{ session: Session }>({ method: "GET", path: `${CURRENT}?touch=${touch}` }, token)).session;
  }

  /** Changes keys of the data; the others stay as they are, so parallel requests lose nothing. */
  async save(token: string, change: Schemas["SaveBody"]): Promise<number> {
    return (await this.#ask<Schemas["SavedAnswer"]>({ method: "PATCH", path: CURRENT, body: change }, token)).revision;
  }

  rotate(token: string, how: Schemas["RotateBody"] = {}): Promise<Begun> {
    return this.#ask({ path: `${CURRENT}/rotate`, body: how }, token);
  }

  /** Signs a person out; false: the session was over. */
  async end(token: string, reason?: string): Promise<boolean> {
    return (await this.#ask<Schemas["EndedAnswer"]>({ method: "DELETE", path: CURRENT, body: reason ? { reason } : {} }, token)).ended > 0;
  }

  /** Signs a person out everywhere else; says in how many places. */
  async endOthers(token: string, reason?: string): Promise<number> {
    return (await this.#ask<Schemas["EndedAnswer"]>({ path: `${CURRENT}/end-others`, body: reason ? { reason } : {} }, token)).ended;
  }

  async endMany(which: Schemas["EndManyBody"]): Promise<string[]> {
    return (await this.#ask<Schemas["EndedIdsAnswer"]>({ path: `${BASE}/end`, body: which })).ids;
  }

  /** Lists a user's sessions, the latest first: 1,000 at most. */
  async of(userId: string): Promise<Session[]> {
    const query = new URLSearchParams({ userId, newestFirst: "true", limit: "1000" });
    return (await this.#ask<Schemas["Page_SessionBody_"]>({ method: "GET", path: `${BASE}?${query}` })).items;
  }

  /** Asks, and once more where no answer came: under one key nothing is done twice. */
  async #ask<T>(call: Call, token?: string): Promise<T> {
    const headers = token === undefined ? undefined : { "X-Session-Token": token };
    const key = call.method === "GET" ? undefined : newId();
    const asked = { ...call, proof: this.#key, key, headers };
    try {
      return (await this.#http.call<T>(asked)).data;
    } catch (fault) {
      if (!(fault instanceof SojournError) || !fault.passing) throw fault;
      await new Promise<void>((resolve) => void this.#http.clock.after(AGAIN_MS, resolve));
      return (await this.#http.call<T>(asked)).data;
    }
  }
}

/**
 * Hands on what people ask about their own sessions (`/api/user/active-sessions`), for frameworks that speak in `Request`
 * and `Response`, such as Next.js. `token` brings the session token that a request's cookie holds, or undefined.
 */
export function activeSessions({
  token,
  ip,
  ...options
}: PeopleOptions & {
  token: (request: Request) => string | undefined | Promise<string | undefined>;
  ip?: (request: Request) => string | undefined;
}): (request: Request) => Promise<Response> {
  const call = peoplesCalls(options);
  return async (request) => {
    const { pathname, search } = new URL(request.url);
    const body = await bodyOf(request);
    const answer = await call({
      method: request.method,
      path: (/\/active-sessions(.*)$/.exec(pathname)?.[1] ?? "") + search,
      token: await token(request),
      header: (name) => request.headers.get(name),
      ...(body && { body }),
      ip: ip?.(request),
    });
    return new Response(answer.body, answer);
  };
}

/** Reads a body, one character more than it may have at most. */
async function bodyOf(request: Request): Promise<string> {
  let text = "";
  const reader = request.body?.pipeThrough(new TextDecoderStream()).getReader();
  while (reader && text.length <= BODY_MAX) {
    const { done, value } = await reader.read();
    if (done) return text;
    text += value;
  }
  await reader?.cancel();
  return text;
}

/** Makes a session token, as a server would: 256 random bits and a checksum. */
export function newSessionToken(): string {
  const body = `sjs_${base62(BigInt(`0x${randomBytes(32).toString("hex")}`), 43)}`;
  return body + checksum(body);
}

/** Tells whether a text is a session token, and whole. */
export function isSessionToken(text: string): boolean {
  return /^sjs_[0-9A-Za-z]{49}$/.test(text) && checksum(text.slice(0, -6)) === text.slice(-6);
}

function checksum(text: string): string {
  return base62(BigInt(crc32(text)), 6);
}

function base62(number: bigint, length: number): string {
  let text = "";
  for (let place = 0; place < length; place++) {
    text = ALPHABET[Number(number % 62n)] + text;
    number /= 62n;
  }
  return text;
}
