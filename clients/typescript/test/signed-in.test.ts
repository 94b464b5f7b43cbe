import assert from "node:assert/strict";
import test from "node:test";
import { SignedIn, type SessionsOptions } from "../src/signed-in.js";
import { answer, problem } from "./fake.js";

interface Asked {
  url: string;
  init: RequestInit;
  reply: (answer: Response) => void;
}

const settle = () => new Promise((resolve) => setImmediate(resolve));
const session = (id: string) => ({ id, device: "Chrome on Linux", isCurrent: id === "s1" });
const page = (ids: string[], next: string | null = null, total = ids.length) =>
  answer(200, { success: true, data: ids.map(session), total, next, message: null, canRename: true });

function listed(options: SessionsOptions = {}) {
  const asked: Asked[] = [];
  const fetch = (url: string, init: RequestInit) =>
    new Promise<Response>((reply, reject) => {
      asked.push({ url, init, reply });
      init.signal!.addEventListener("abort", () => reject(init.signal!.reason));
    });
  return { asked, list: new SignedIn({ ...options, fetch }), told: [] as unknown[] };
}

test("a list is read once it is watched, and page by page", async () => {
  const { asked, list } = listed();
  assert.equal(asked.length, 0);
  const off = list.watch(() => {});
  await settle();
  assert.deepEqual([asked[0]!.url, asked[0]!.init.credentials], ["/api/user/active-sessions?limit=50", "include"]);
  asked[0]!.reply(page(["s1", "s2"], "s2", 3));
  await settle();
  const { total, hasMore, canRename, loading, sessions } = list.now;
  assert.deepEqual([sessions!.length, total, hasMore, canRename, loading], [2, 3, true, true, false]);
  void list.more();
  await settle();
  assert.equal(asked[1]!.url, "/api/user/active-sessions?limit=50&after=s2");
  asked[1]!.reply(page(["s2", "s3"], null, 3));
  await settle();
  assert.deepEqual([list.now.sessions!.map(({ id }) => id), list.now.hasMore], [["s1", "s2", "s3"], false]);
  await list.more();
  assert.equal(asked.length, 2);
  off();
});

test("the latest answer counts, whichever comes last; what was stopped tells nothing", async () => {
  const { asked, list } = listed();
  const off = list.watch(() => {});
  void list.refresh();
  await settle();
  asked[1]!.reply(page(["s1"]));
  await settle();
  asked[0]!.reply(page(["s1", "s2"]));
  await settle();
  assert.equal(list.now.sessions!.length, 1);
  void list.refresh();
  await settle();
  off();
  await settle();
  assert.equal(list.now.error, undefined);
  list.watch(() => {})();
  await settle();
  assert.equal(list.now.error, undefined);
});

test("an end reads the list anew; its refusal is told to who asked", async () => {
  const { asked, list } = listed({ url: "https://app.test/sessions", token: () => "sjs_x" });
  const off = list.watch(() => {});
  await settle();
  asked[0]!.reply(page(["s1", "s2"]));
  await settle();
  const ended = list.end("s 2");
  await settle();
  const { url, init } = asked[1]!;
  assert.deepEqual([init.method, url, init.credentials], ["DELETE", "https://app.test/sessions/s%202", "omit"]);
  assert.equal((init.headers as Record<string, string>).Authorization, "Bearer sjs_x");
  asked[1]!.reply(answer(200, { success: true, data: { ended: 1, seats: 0 } }));
  await settle();
  asked[2]!.reply(page(["s1"]));
  assert.equal(await ended, 1);
  assert.equal(list.now.total, 1);
  const refused = assert.rejects(list.endOthers(), { code: "reauth_required", status: 403 });
  await settle();
  assert.equal(asked[3]!.url, "https://app.test/sessions/logout-others");
  asked[3]!.reply(problem(403, "reauth_required"));
  await settle();
  asked[4]!.reply(problem(401, "session_ended"));
  await refused;
  assert.deepEqual([list.now.error!.code, list.now.sessions!.length], ["session_ended", 1]);
  off();
});

test("what is no answer is said so", async () => {
  const { asked, list } = listed();
  const off = list.watch(() => {});
  await settle();
  asked[0]!.reply(new Response("<html>", { status: 502 }));
  await settle();
  assert.deepEqual([list.now.error!.code, list.now.loading, list.now.sessions], ["unreachable", false, undefined]);
  off();
});
