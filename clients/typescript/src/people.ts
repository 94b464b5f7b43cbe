import type { Fetch } from "./http.js";

/** What an application hands on of a request for `/api/user/active-sessions`. */
export interface PersonAsks {
  method: string;
  /** What comes after `/api/user/active-sessions`: nothing, or `/` and more; with its query. */
  path: string;
  /** The session token that the request's own cookie holds; undefined: nobody is signed in. */
  token: string | undefined;
  /** Looks a header up by its name in lower case. */
  header: (name: string) => string | null | undefined;
  /** The text of its body, if it has one. */
  body?: string;
  /** The person's address, for servers that have this one among their `trusted_proxies`. */
  ip?: string | undefined;
}

export interface PersonAnswer {
  status: number;
  headers: Record<string, string>;
  body: string;
}

export interface PeopleOptions {
  url: string;
  /** Other origins whose pages may send changes: `https://app.example.com`. */
  trustedOrigins?: readonly string[];
  fetch?: Fetch;
}

export const PEOPLE = "/api/user/active-sessions";
/** Characters of a body: a device's name, in JSON. */
export const BODY_MAX = 4_096;
const PATIENCE = 10_000; // milliseconds
const PASSED_ON = ["content-type", "retry-after"];
const PATH = /^(\/[\w-]{1,100})?(\?[\w=&%.~-]{0,500})?$/;

function refused(status: number, code: string, error: string, details: string): PersonAnswer {
  const body = { type: `/problems/${code}`, title: error, status, code, error, details };
  return { status, headers: { "content-type": "application/problem+json", "cache-control": "no-store" }, body: JSON.stringify(body) };
}

/**
 * Whether a browser says that a page of another site sends this. What names neither came from no browser; a sandboxed
 * page is nobody's.
 */
function isElsewhere(header: PersonAsks["header"], trusted: readonly string[]): boolean {
  const origin = header("origin");
  if (origin && trusted.includes(origin)) return false;
  const site = header("sec-fetch-site");
  if (site) return site !== "same-origin" && site !== "none";
  return !!origin && origin.split("://")[1]?.toLowerCase() !== header("host")?.toLowerCase();
}

/** Makes what hands on what people ask about their own sessions, from an application to a Sojourn server. Never rejects. */
export function peoplesCalls({ url, trustedOrigins = [], fetch = (to, init) => globalThis.fetch(to, init) }: PeopleOptions): (asks: PersonAsks) => Promise<PersonAnswer> {
  const base = url.replace(/\/+$/, "") + PEOPLE;
  return async ({ method, path, token, header, body, ip }) => {
    if (!PATH.test(path)) return refused(404, "not_found", "There is nothing at this path.", "");
    if (method !== "GET" && isElsewhere(header, trustedOrigins))
      return refused(403, "cross_origin", "This came from a page of another site, so it was not carried out.", "Only pages of this site's own origin may do this.");
    if (!token) return refused(401, "unauthenticated", "You are not signed in.", "Sign in, then come back.");
    if (body && body.length > BODY_MAX) return refused(413, "body_too_large", "The request is too large.", `It may have ${BODY_MAX} characters.`);
    try {
      const answer = await fetch(base + path, {
        method,
        headers: {
          Accept: "application/json",
          Authorization: `Bearer ${token}`,
          "User-Agent": header("user-agent") ?? "",
          ...(ip && { "X-Forwarded-For": ip }),
          ...(body && { "Content-Type": "application/json" }),
        },
        ...(body && { body }),
        redirect: "error",
        signal: AbortSignal.timeout(PATIENCE),
      });
      const kept = PASSED_ON.map((name) => [name, answer.headers.get(name)] as const).filter(([, value]) => value !== null);
      return { status: answer.status, headers: { ...(Object.fromEntries(kept) as Record<string, string>), "cache-control": "no-store" }, body: await answer.text() };
    } catch {
      const said = refused(503, "store_unavailable", "Your sessions cannot be shown right now.", "You stay signed in. Try again in a moment.");
      return { ...said, headers: { ...said.headers, "retry-after": "5" } };
    }
  };
}
