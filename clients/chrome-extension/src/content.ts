// Tells the worker that a tab of the application is open, and the page that its session is over.

function connect(): void {
  const port = chrome.runtime.connect();
  port.onMessage.addListener((message: { type: string }) => document.dispatchEvent(new CustomEvent(`sojourn:${message.type}`)));
  // The worker was stopped: the next one is told again, unless the extension itself is gone.
  port.onDisconnect.addListener(() => {
    if (chrome.runtime?.id && document.visibilityState) setTimeout(connect, 1_000);
  });
}

connect();
