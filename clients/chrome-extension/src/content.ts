// Tells the worker that a tab of the application is open, and the page that its session is over.

/** Milliseconds until a worker that was stopped is started again: who needs a seat waits for its holder for 1.5 s. */
const SOON = 50;
/** And until the next try, if that was in vain. */
const LATER = 1_000;

let port: chrome.runtime.Port | undefined;

function connect(): void {
  port?.disconnect();
  port = undefined;
  if (!chrome.runtime?.id) return; // the extension itself is gone
  const mine = (port = chrome.runtime.connect());
  const since = Date.now();
  mine.onMessage.addListener((message: { type: string }) => document.dispatchEvent(new CustomEvent(`sojourn:${message.type}`)));
  // The worker was stopped: the next one is told again.
  mine.onDisconnect.addListener(() => {
    if (port !== mine) return;
    port = undefined;
    setTimeout(() => port ?? connect(), Date.now() - since > LATER ? SOON : LATER);
  });
}

connect();
// Ports of a page that is left end, and it is not told of it when it comes back from the browser's cache.
addEventListener("pageshow", ({ persisted }) => persisted && connect());
