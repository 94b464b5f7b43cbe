import { Client, type OwnSeat, type Saved, SeatDenied, SojournError } from "@sojourn/client";
import { deviceId, keepInWorker } from "@sojourn/client/extension";
import { type Command, read, SETTINGS, type Settings, VIEW, type View, WAITING, WANTED } from "./shared.js";

const { local, session } = chrome.storage;
/** Milliseconds in which tabs tell a worker that has just started that they are open. */
const TABS_MAX = 10_000;
/** Seconds for which a person waits in the line, unless they think better of it. */
const WAIT_MAX = 8 * 3_600;
const BADGES: Partial<Record<View["state"], string>> = { jeopardy: "…", lost: "!", asking: "…" };

let seat: OwnSeat | undefined;
let asking: AbortController | undefined;
let again: { wait?: number } | undefined; // it was asked for, and the server was away
let left: Saved | undefined; // the seat lingers: no tab of the application is open
const ports = new Set<chrome.runtime.Port>();

async function show(view: View): Promise<void> {
  await Promise.all([session.set({ [VIEW]: view }), chrome.action.setBadgeText({ text: BADGES[view.state] ?? "" })]);
}

/** Counts how often the worker was started since the browser was: for whoever wonders. */
async function note(): Promise<void> {
  await session.set({ boots: ((await read<number>(session, "boots")) ?? 0) + 1 });
}

/** Starts anew with the settings, or with what is left of before the worker slept. */
async function boot(): Promise<void> {
  const settings = await read<Settings>(local, SETTINGS);
  if (!settings) return show({ state: "signed out", reason: "settings" });
  const { url, key, feature, userId, deviceName, hold } = settings;
  const own = new Client({ url, proof: key }).own({
    feature,
    userId,
    clientId: await deviceId(),
    device: { kind: "extension", browser: "Chrome", ...(deviceName && { name: deviceName }) },
  });
  seat = own;
  own.on("change", ({ state, reason }) => {
    // Somebody meant it: the next worker is not to fight for it either.
    if (seat === own && state === "lost" && !own.saved) void local.set({ [WANTED]: false });
    if (seat === own && !asking) void show({ state, reason, feature });
  });
  own.on("wait", ({ error }) => void show({ ...refused(error), state: "asking", feature }));
  own.on("sessionExpired", () => ports.forEach((port) => port.postMessage({ type: "session-expired" })));
  const held = await keepInWorker(own);
  if (hold === "tabs") setTimeout(count, TABS_MAX);
  if (held) return show({ state: own.state, reason: "kept", feature });
  if (hold === "tabs" && !ports.size) return show({ state: "new", reason: "no_tab", feature });
  // It may take hours, in the line: commands do not wait for it.
  if (await read(local, WANTED)) void acquire({ wait: (await read(session, WAITING)) ? WAIT_MAX : 0 });
}

function refused(error: SojournError): View {
  const view: View = { state: "lost", reason: error.code, error: error.message, hint: error.hint };
  if (!(error instanceof SeatDenied)) return view;
  const { limit, inUse, waiting } = error.problem ?? {};
  const mine = error.mine.map((each) => each.device?.name ?? each.clientId);
  return { ...view, limit: limit ?? 0, inUse: inUse ?? 0, waiting: waiting ?? undefined, mine, position: error.position };
}

async function acquire(how: { takeover?: boolean; wait?: number }): Promise<void> {
  if (!seat) return;
  const own = seat;
  const { feature } = own.options;
  asking?.abort();
  again = undefined;
  const control = (asking = new AbortController());
  await Promise.all([local.set({ [WANTED]: true }), session.set({ [WAITING]: !!how.wait })]);
  let view: View;
  let passing = false;
  try {
    await own.acquire({ ...how, signal: control.signal });
    view = { state: own.state, reason: "granted", feature };
  } catch (fault) {
    view = { ...refused(fault as SojournError), feature };
    passing = (fault as SojournError).passing;
  }
  if (asking !== control) return;
  asking = undefined;
  if (passing) again = { wait: how.wait };
  await session.set({ [WAITING]: false });
  await show(view);
}

/** Asks again after a while, or as the network is back. A seat that was held comes back without it. */
async function retry(): Promise<void> {
  await ready;
  if (again && !asking && seat && !seat.held) await acquire(again);
}

async function release(): Promise<void> {
  asking?.abort();
  asking = again = undefined;
  await Promise.all([local.set({ [WANTED]: false }), session.set({ [WAITING]: false })]);
  await seat?.release();
  await show({ state: "released", reason: "released", feature: seat?.options.feature });
}

async function obey(command: Command): Promise<void> {
  await ready;
  if (command === "acquire") await acquire({});
  if (command === "takeover") await acquire({ takeover: true });
  if (command === "wait") void acquire({ wait: WAIT_MAX });
  if (command === "release") await release();
  if (command === "settings" || command === "sign out") {
    await release();
    seat = undefined;
    if (command === "sign out") await local.remove(SETTINGS);
    else await local.set({ [WANTED]: true });
    await boot();
  }
}

let counting: Promise<void> = Promise.resolve();

/** A tab of the application was opened, or the last one closed: then the seat lingers, for whoever comes back. */
function count(): void {
  counting = counting.then(recount, recount);
}

async function recount(): Promise<void> {
  await ready;
  const settings = await read<Settings>(local, SETTINGS);
  if (settings?.hold !== "tabs" || !seat || !(await read(local, WANTED))) return;
  const { feature } = seat.options;
  if (!ports.size) {
    const asked = asking ?? again;
    asking?.abort();
    asking = again = undefined;
    if (seat.saved) left = seat.goodbye();
    else if (asked) await show({ state: "new", reason: "no_tab", feature });
  } else if (!seat.held && !asking) {
    const saved = left;
    left = undefined;
    if (!saved || !(await seat.adopt(saved))) void acquire({});
  }
}

// At the top level, and at once: a worker that is started for an event is told of it only then.
chrome.runtime.onMessage.addListener(({ command }: { command: Command }, sender, reply) => {
  if (!sender.url?.startsWith(chrome.runtime.getURL(""))) return false; // pages of the web command nothing
  obey(command).then(() => reply(true), () => reply(false));
  return true;
});
chrome.runtime.onConnect.addListener((port) => {
  ports.add(port);
  count();
  port.onDisconnect.addListener(() => {
    ports.delete(port);
    count();
  });
});
chrome.runtime.onStartup.addListener(() => {}); // to be started with the browser is all that it takes
chrome.runtime.onInstalled.addListener(() => {});
chrome.alarms.onAlarm.addListener(() => void retry());
globalThis.addEventListener("online", () => void retry());

void local.setAccessLevel({ accessLevel: "TRUSTED_CONTEXTS" }); // the license key is there
void note();
const ready = boot();
