import type { State } from "@sojourn/client";

export interface Settings {
  url: string;
  key: string;
  feature: string;
  userId: string;
  deviceName?: string;
  hold: "always" | "tabs";
}

/** What popups show; in `storage.session`, so that they need not wake the worker. */
export interface View {
  state: State | "signed out" | "asking";
  reason: string;
  feature?: string;
  limit?: number;
  inUse?: number;
  /** The user's own seats elsewhere. */
  mine?: string[];
  /** The place in the line, from 1. */
  position?: number;
  waiting?: number;
  error?: string;
  hint?: string;
}

export type Command = "acquire" | "takeover" | "wait" | "release" | "settings" | "sign out";

export const VIEW = "view";
export const SETTINGS = "settings";
/** Whether the person wants a seat: the worker takes one whenever it starts. */
export const WANTED = "wanted";
/** Whether the person waits in the line. */
export const WAITING = "waiting";

export async function read<T>(area: chrome.storage.StorageArea, name: string): Promise<T | undefined> {
  return (await area.get<Record<string, T>>(name))[name];
}

export function send(command: Command): Promise<void> {
  return chrome.runtime.sendMessage({ command });
}
