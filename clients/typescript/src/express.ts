/**
 * express-session on a Sojourn server:
 *
 *     app.use(session({ ...sojourn({ url, key }), secret, resave: false, saveUninitialized: false }));
 *
 * Parallel requests lose no key: only what a request has changed is saved. A session that was ended anywhere is over
 * here with the next request, and no request that still runs brings it back.
 */
import type { Request, RequestHandler } from "express";
import { type SessionData, Store } from "express-session";
import { SojournError } from "./errors.js";
import type { Clock } from "./clock.js";
import type { Fetch } from "./http.js";
import { type Begin, isSessionToken, newSessionToken, type Session, Sessions } from "./node.js";
import { BODY_MAX, type PeopleOptions, peoplesCalls } from "./people.js";

type Data = Record<string, unknown>;
type Done = (fault?: unknown) => void;
type Found = (fault: unknown, session?: SessionData | null) => void;

export interface StoreOptions {
  url: string;
  /** An API key of the role `app`. */
  key: string;
  /** Who has signed in, by a session's data; Passport's user unless it is said. Undefined: nobody, a visitor. */
  user?: (data: Data) => string | undefined;
  /** What else a session begins with: `timeouts`, `limit`, `device`, … */
  begin?: (data: Data) => Partial<Begin>;
  fetch?: Fetch;
  clock?: Clock;
}

/** Makes what `session()` takes: the store, and ids that a Sojourn server takes as tokens. */
export function sojourn(options: StoreOptions): { store: SojournStore; genid: () => string } {
  return { store: new SojournStore(options), genid: newSessionToken };
}

/**
 * People's own sessions, for the page where they see them:
 *
 *     app.use("/api/user/active-sessions", activeSessions({ url }));
 *
 * It stands after `session()`, and needs no key: it asks with the session of whoever asks. No change that a page of another
 * site has sent is handed on.
 */
export function activeSessions(options: PeopleOptions): RequestHandler {
  const call = peoplesCalls(options);
  return (request, response, next) => {
    const asked = async () => {
      const { sessionID: sid, method, ip } = request;
      const body = await bodyOf(request);
      const { status, headers, body: said } = await call({
        method,
        path: request.url.replace(/^\/(?=\?|$)/, ""),
        token: isSessionToken(sid ?? "") ? sid : undefined,
        header: (name) => request.get(name),
        ...(body && { body }),
        ip,
      });
      response.status(status).set(headers).send(said);
    };
    asked().catch(next);
  };
}

/** Returns a body as text, also where it was read before; one chunk more than it may have at most. */
async function bodyOf(request: Request): Promise<string> {
  if (request.method === "GET") return "";
  if (request.readableEnded) return request.body === undefined ? "" : JSON.stringify(request.body);
  let text = "";
  for await (const chunk of request.setEncoding("utf8")) {
    if (text.length <= BODY_MAX) text += chunk as string;
  }
  return text;
}

/** Where whoever begins a session is, as its request says: express-session keeps that with it. */
function deviceOf(session: SessionData): Begin["device"] {
  const { req } = session as unknown as { req?: Request };
  const userAgent = req?.get?.("user-agent");
  return req && { ...(userAgent && { userAgent }), ...(req.ip && { ip: req.ip }) };
}

/** Sessions as they were when a request got them, by express-session's own objects. */
const BEFORE = new WeakMap<object, Data>();

export class SojournStore extends Store {
  readonly sessions: Sessions;
  readonly #user: (data: Data) => string | undefined;
  readonly #begin: (data: Data) => Partial<Begin>;

  constructor({ user = passportUser, begin = () => ({}), ...rest }: StoreOptions) {
    super();
    this.sessions = new Sessions(rest);
    this.#user = user;
    this.#begin = begin;
  }

  override get = (sid: string, done: Found): void => {
    if (!isSessionToken(sid)) {
      done(null, null);
      return;
    }
    this.sessions.check(sid).then(
      (session) => done(null, shown(session)),
      (fault) => (isOver(fault) ? done(null, null) : done(fault)),
    );
  };

  override set = (sid: string, session: SessionData, done: Done = () => {}): void => {
    const data = plain(session);
    const before = BEFORE.get(session);
    const kept = before ? this.#save(sid, before, data) : this.#make(sid, data, deviceOf(session));
    kept.then(
      () => {
        BEFORE.set(session, data);
        done();
      },
      (fault) => done(isOver(fault) && before ? undefined : fault), // it is over: there is nothing to keep
    );
  };

  override destroy = (sid: string, done: Done = () => {}): void => {
    if (!isSessionToken(sid)) {
      done();
      return;
    }
    this.sessions.end(sid).then(
      () => done(),
      (fault) => (isOver(fault) ? done() : done(fault)),
    );
  };

  /** Nothing is left to do: that it was used was noted when it was got. */
  override touch = (_sid: string, _session: SessionData, done: () => void = () => {}): void => done();

  override createSession(request: Request, session: SessionData): ReturnType<Store["createSession"]> {
    const made = super.createSession(request, session);
    BEFORE.set(made, plain(session));
    return made;
  }

  async #save(sid: string, before: Data, data: Data): Promise<void> {
    const set = Object.fromEntries(Object.entries(data).filter(([name, value]) => !same(value, before[name])));
    const unset = Object.keys(before).filter((name) => !(name in data));
    if (this.#user(data) !== this.#user(before) && this.#user(data) !== undefined)
      throw new SojournError("session_forged", "Somebody signs in on a session of before.", "Call req.session.regenerate() first, as Passport does.");
    if (Object.keys(set).length || unset.length) await this.sessions.save(sid, { set, unset });
  }

  /** Begins a session, and gives it the token that express-session has in its cookie. */
  async #make(sid: string, data: Data, device: Begin["device"]): Promise<void> {
    const userId = this.#user(data);
    const { originalMaxAge } = data.cookie as { originalMaxAge?: number | null };
    const timeouts = originalMaxAge ? { timeouts: { idleTimeout: originalMaxAge / 1000 } } : {};
    const { token } = await this.sessions.begin({ ...(device && { device }), ...timeouts, ...this.#begin(data), ...(userId !== undefined && { userId }), data });
    try {
      await this.sessions.rotate(token, { token: sid, grace: 0 });
    } catch (fault) {
      await this.sessions.end(token, "not_kept").catch(() => {}); // it ends by itself, unused
      // Another request of the same visitor was quicker: both have written what they know.
      if (!(fault instanceof SojournError && fault.code === "conflict")) throw fault;
      const found = await this.sessions.check(sid);
      if ((found.userId ?? undefined) !== userId)
        throw new SojournError("session_forged", "Somebody signs in on a session of somebody else's.", "Call req.session.regenerate() first, as Passport does.");
      await this.sessions.save(sid, { set: data });
    }
  }
}

function passportUser(data: Data): string | undefined {
  const user = (data.passport as { user?: unknown } | undefined)?.user;
  return user === undefined || user === null ? undefined : typeof user === "object" ? JSON.stringify(user) : String(user);
}

function isOver(fault: unknown): boolean {
  return fault instanceof SojournError && fault.is("session_absent", "session_idle", "session_expired", "session_ended", "session_forged") && fault.status === 401;
}

/** A session's data, as JSON has it, without when its cookie expires: that moves with every visit. */
function plain(session: SessionData): Data {
  const { cookie, ...rest } = JSON.parse(JSON.stringify(session)) as Data & { cookie?: Data };
  return { ...rest, cookie: { ...cookie, expires: undefined } };
}

function shown(session: Session): SessionData {
  const { cookie, ...data } = session.data as Data & { cookie?: { originalMaxAge?: number | null } };
  const age = cookie?.originalMaxAge;
  const expires = age ? new Date(Date.now() + age).toISOString() : null;
  return { ...data, cookie: { ...cookie, originalMaxAge: age ?? null, expires } } as unknown as SessionData;
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
