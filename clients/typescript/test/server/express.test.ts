import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import express, { type Request, type Response } from "express";
import session from "express-session";
import { activeSessions, sojourn, type SojournStore } from "../../src/express.js";
import { activeSessions as inRequests, isSessionToken, newSessionToken } from "../../src/node.js";

declare module "express-session" {
  interface SessionData {
    passport: { user: string };
    [key: `k${number}`]: number;
  }
}

const { SOJOURN_URL: url, SOJOURN_APP_KEY: key } = process.env as Record<string, string>;
let server: Server;
let store: SojournStore;
let base: string;
let slow: (() => void)[] = [];

before(async () => {
  const parts = sojourn({ url: url!, key: key! });
  store = parts.store;
  const app = express();
  app.use(session({ ...parts, secret: "a secret of tests", resave: false, saveUninitialized: false, cookie: { maxAge: 3_600_000 } }));
  app.use("/api/user/active-sessions", activeSessions({ url: url!, trustedOrigins: ["https://app.example"] }));
  app.use("/parsed/active-sessions", express.json(), activeSessions({ url: url! }));
  app.post("/login/:user", (request: Request, response: Response, next) => {
    request.session.regenerate((fault) => {
      if (fault) return next(fault);
      request.session.passport = { user: String(request.params.user) };
      request.session.save((failed) => (failed ? next(failed) : response.json({})));
    });
  });
  app.get("/me", (request: Request, response: Response) => {
    const { cookie, ...data } = request.session;
    response.json({ data, age: cookie.originalMaxAge, expires: !!cookie.expires });
  });
  app.post("/set/:n", (request: Request, response: Response) => {
    request.session[`k${Number(request.params.n)}`] = 1;
    response.json({});
  });
  app.post("/unset/:n", (request: Request, response: Response) => {
    delete request.session[`k${Number(request.params.n)}`];
    response.json({});
  });
  app.post("/sneak", (request: Request, response: Response) => {
    request.session.passport = { user: "eve" };
    request.session.save((fault) => response.json({ fault: fault ? String(fault.code) : null }));
  });
  app.post("/slow", (request: Request, response: Response) => {
    slow.push(() => {
      request.session.k99 = 1;
      request.session.save((fault) => response.json({ fault: fault ? String(fault) : null }));
    });
    waiting();
  });
  app.post("/logout", (request: Request, response: Response, next) => {
    request.session.destroy((fault) => (fault ? next(fault) : response.json({})));
  });
  server = createServer(app).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

after(() => {
  server.closeAllConnections();
  server.close();
});

let waiting = () => {};

class Browser {
  cookie = "";

  send(method: string, path: string, headers: Record<string, string> = {}, body?: string): Promise<globalThis.Response> {
    return fetch(base + path, { method, headers: { ...(this.cookie && { Cookie: this.cookie }), ...headers }, ...(body && { body }) });
  }

  async ask(method: string, path: string): Promise<any> {
    const answer = await this.send(method, path);
    const set = answer.headers.getSetCookie()[0];
    if (set) this.cookie = set.split(";")[0]!;
    assert.equal(answer.status, 200, await answer.clone().text());
    return answer.json();
  }

  get sid(): string {
    return decodeURIComponent(this.cookie.split("=")[1]!).slice(2).split(".")[0]!;
  }
}

test("a sign-in is a session of the server's, under the cookie's id", async () => {
  const browser = new Browser();
  await browser.ask("POST", "/login/ada");
  assert.ok(isSessionToken(browser.sid));
  const me = await browser.ask("GET", "/me");
  assert.deepEqual(me, { data: { passport: { user: "ada" } }, age: 3_600_000, expires: true });
  const [one, ...others] = await store.sessions.of("ada");
  assert.deepEqual([one!.userId, one!.idleTimeout, others.length], ["ada", 3_600, 0]);
});

test("a visitor's session keeps data, and a sign-in gets a new one", async () => {
  const browser = new Browser();
  await browser.ask("POST", "/set/1");
  const visitor = browser.sid;
  assert.deepEqual((await browser.ask("GET", "/me")).data, { k1: 1 });
  assert.deepEqual(await browser.ask("POST", "/sneak"), { fault: "session_forged" });
  await browser.ask("POST", "/login/bob");
  assert.notEqual(browser.sid, visitor);
  assert.deepEqual((await browser.ask("GET", "/me")).data, { passport: { user: "bob" } });
  await assert.rejects(store.sessions.check(visitor), { code: "session_ended" });
});

test("parallel requests lose no key", async () => {
  const browser = new Browser();
  await browser.ask("POST", "/login/cy");
  const many = Array.from({ length: 20 }, (_, n) => n);
  await Promise.all(many.map((n) => browser.ask("POST", `/set/${n}`)));
  const { data } = await browser.ask("GET", "/me");
  assert.equal(Object.keys(data).length, 21);
  await Promise.all([browser.ask("POST", "/unset/3"), browser.ask("POST", "/set/30")]);
  const after = (await browser.ask("GET", "/me")).data;
  assert.deepEqual(["k3" in after, "k30" in after, "k4" in after], [false, true, true]);
});

test("who makes the same session at once has to be the same", async () => {
  const sid = newSessionToken();
  const set = (data: object) =>
    new Promise<string | undefined>((resolve) =>
      store.set(sid, { cookie: { originalMaxAge: null }, ...data } as unknown as session.SessionData, (fault) => resolve((fault as { code?: string } | undefined)?.code)),
    );
  assert.equal(await set({ passport: { user: "fay" }, k1: 1 }), undefined);
  assert.equal(await set({ passport: { user: "fay" }, k2: 1 }), undefined);
  assert.equal(await set({ passport: { user: "gus" }, k3: 1 }), "session_forged");
  assert.equal(await set({ k4: 1 }), "session_forged");
  const found = await store.sessions.check(sid);
  assert.deepEqual([found.userId, Object.keys(found.data!).sort()], ["fay", ["cookie", "k1", "k2", "passport"]]);
});

test("an end anywhere holds, and a request that still runs brings nothing back", async () => {
  const browser = new Browser();
  await browser.ask("POST", "/login/dee");
  const arrived = new Promise<void>((resolve) => (waiting = resolve));
  const running = browser.ask("POST", "/slow");
  await arrived;
  assert.equal((await store.sessions.endMany({ userId: "dee", reason: "revoked" })).length, 1);
  slow.splice(0).forEach((go) => go());
  assert.deepEqual(await running, { fault: null });
  assert.deepEqual((await browser.ask("GET", "/me")).data, {});
  assert.deepEqual(await store.sessions.of("dee"), []);
});

test("a sign-out ends the session, and ids of nobody are none", async () => {
  const browser = new Browser();
  await browser.ask("POST", "/login/eli");
  const sid = browser.sid;
  await browser.ask("POST", "/logout");
  await assert.rejects(store.sessions.check(sid), { code: "session_ended" });
  const got = (id: string) => new Promise((resolve, reject) => store.get(id, (fault, found) => (fault ? reject(fault) : resolve(found))));
  assert.equal(await got("a-file-store-id"), null);
  assert.equal(await got(newSessionToken()), null);
  await new Promise<void>((resolve, reject) => store.destroy(newSessionToken(), (fault) => (fault ? reject(fault) : resolve())));
});

const CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";
const PEOPLE = "/api/user/active-sessions";

test("people see where they are signed in, on which device, and sign out there", async () => {
  const [here, there, stranger] = [new Browser(), new Browser(), new Browser()];
  for (const each of [here, there]) {
    const answer = await each.send("POST", "/login/hal", { "User-Agent": CHROME });
    each.cookie = answer.headers.getSetCookie()[0]!.split(";")[0]!;
  }
  const list = await here.ask("GET", `${PEOPLE}?limit=10`);
  assert.deepEqual(list.data.map((each: any) => [each.device, each.isCurrent]).sort(), [["Chrome on Linux", false], ["Chrome on Linux", true]]);
  assert.match(list.data[0].ipAddress, /127\.0\.0\.1/);
  const other = list.data.find((each: any) => !each.isCurrent);
  assert.equal((await stranger.send("GET", PEOPLE)).status, 401);
  for (const base of [PEOPLE, "/parsed/active-sessions"]) {
    const json = { "Content-Type": "application/json", Origin: "https://app.example", "Sec-Fetch-Site": base === PEOPLE ? "cross-site" : "same-origin" };
    const renamed = await here.send("PATCH", `${base}/${other.id}`, json, JSON.stringify({ name: `Kitchen ${base}` }));
    assert.equal(renamed.status, 200, await renamed.text());
    assert.equal((await here.ask("GET", base)).data.find((each: any) => !each.isCurrent).name, `Kitchen ${base}`);
  }
  for (const headers of [{ "Sec-Fetch-Site": "cross-site" }, { Origin: "https://evil.example" }, { Origin: "null" }] as Record<string, string>[]) {
    const refused = await here.send("DELETE", `${PEOPLE}/${other.id}`, headers);
    assert.deepEqual([refused.status, (await refused.json()).code], [403, "cross_origin"]);
  }
  const large = await here.send("PATCH", `${PEOPLE}/${other.id}`, { "Content-Type": "application/json" }, `{"name": "${"x".repeat(100_000)}"}`);
  assert.equal(large.status, 413);
  assert.equal((await here.send("GET", `${PEOPLE}/..%2f..%2fx`)).status, 404);
  assert.equal((await here.ask("DELETE", `${PEOPLE}/${other.id}`)).data.ended, 1);
  assert.deepEqual((await there.ask("GET", "/me")).data, {});
  assert.equal((await here.ask("GET", PEOPLE)).total, 1);
});

test("a server that is away is told to people in words", async () => {
  const answer = await inRequests({ url: "http://127.0.0.1:1", token: () => newSessionToken() })(new Request("http://app.test/x/active-sessions"));
  assert.deepEqual([answer.status, answer.headers.get("retry-after"), (await answer.json()).code], [503, "5", "store_unavailable"]);
});

test("a key that is no good is a fault, and signs nobody out", async () => {
  const { store: other } = sojourn({ url: url!, key: "sja_no" });
  const fault = await new Promise<any>((resolve) => other.get(newSessionToken(), resolve));
  assert.equal(fault.status, 401);
  const away = sojourn({ url: "http://127.0.0.1:1", key: key! }).store;
  assert.equal((await new Promise<any>((resolve) => away.get(newSessionToken(), resolve))).code, "unreachable");
});
