/** For the worker of a browser's extension, which the browser stops and starts as it likes. */
import { newId } from "./http.js";
import type { OwnSeat } from "./seat.js";
import type { Saved } from "./terms.js";

const LEASE = "sojourn.lease";
const DEVICE = "sojourn.device";
/** Minutes; browsers take no less of an extension that is installed. */
const PERIOD = 0.5;

interface Kept {
  saved: Saved;
  /** By `Date.now()`. */
  until: number;
}

/** Returns who this browser is, for as long as the extension is installed. */
export async function deviceId(): Promise<string> {
  const kept = await chrome.storage.local.get<Record<string, string>>(DEVICE);
  const id = kept[DEVICE] ?? newId();
  if (id !== kept[DEVICE]) await chrome.storage.local.set({ [DEVICE]: id });
  return id;
}

/**
 * Keeps a seat through the sleeps of a worker: the lease stays in `storage.session`, which ends with the browser, and
 * an alarm wakes the worker that the server's messages have not kept awake. Call it whenever the worker starts, and at
 * once: it sets the alarm anew, which is gone after a restart of the browser. Tells whether the seat is held.
 */
export async function keepInWorker(seat: OwnSeat): Promise<boolean> {
  const keep = () => {
    const { saved, expiresIn } = seat;
    void (saved ? chrome.storage.session.set({ [LEASE]: { saved, until: Date.now() + expiresIn * 1000 } }) : chrome.storage.session.remove(LEASE));
  };
  chrome.alarms.onAlarm.addListener(() => seat.nudge());
  void chrome.alarms.create("sojourn", { periodInMinutes: PERIOD });
  globalThis.addEventListener("online", () => seat.nudge());
  const { [LEASE]: kept } = await chrome.storage.session.get<Record<string, Kept | undefined>>(LEASE);
  seat.on("change", keep);
  seat.on("renewed", keep);
  if (!kept) return false;
  await seat.adopt(kept.saved, (kept.until - Date.now()) / 1000);
  return seat.held;
}
