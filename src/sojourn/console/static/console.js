// What a page of the console does beyond htmx: copy, let times pass, keep the focus, say when the server is
// gone. Without it everything works that changes anything.
// Trusted Types: what htmx puts into the page was written by our own templates, which escape all that is not.
window.trustedTypes?.createPolicy("default", { createHTML: (html) => html });

const root = document.documentElement;
if (navigator.clipboard) root.dataset.copies = "";

document.addEventListener("click", async ({ target }) => {
  const button = target.closest(".copy");
  if (!button) return;
  await navigator.clipboard.writeText(button.closest(".copyable").querySelector("code").textContent);
  const said = button.querySelector("span");
  said.textContent = "Copied";
  setTimeout(() => (said.textContent = "Copy"), 2000);
});

// A link to a check opens it.
const unfold = () => {
  const named = location.hash && document.getElementById(location.hash.slice(1));
  for (let each = named && named.querySelector("details"); each; each = each.parentElement.closest("details")) {
    each.open = true;
  }
};
addEventListener("hashchange", unfold);
unfold();

const count = (number, one) => (number === 1 ? `1 ${one}` : `${number} ${one}s`);
const ago = (ms) => {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 45) return "just now";
  if (seconds < 3600) return `${count(Math.max(1, Math.floor(seconds / 60)), "minute")} ago`;
  if (seconds < 86400) return `${count(Math.floor(seconds / 3600), "hour")} ago`;
  return `${count(Math.floor(seconds / 86400), "day")} ago`;
};
setInterval(() => {
  for (const time of document.querySelectorAll("main time")) {
    time.textContent = ago(Date.now() - Date.parse(time.dateTime));
  }
}, 30000);

// A run is told by the answer to the request that asked for it. If that breaks off, the page says so; but not
// where the page has let go of it for another request, which is told how that run goes, too.
let asked = null, stream = null;
const ofDoctor = (target) => target.matches("#look, #repair");
document.addEventListener("htmx:before:request", ({ target, detail }) => {
  if (ofDoctor(target)) [asked, stream] = [detail.ctx, null];
});
document.addEventListener("htmx:sse:before:connection", ({ detail }) => (stream = detail.connection));
const lost = (place) => place.replaceChildren(document.getElementById("lost").content.cloneNode(true));
document.addEventListener("htmx:error", ({ target }) => {
  const place = target.closest("#doctor") ? "notice" : "banner";
  lost(document.getElementById(place));
});
document.addEventListener("htmx:sse:close", ({ detail }) => {
  const progress = document.querySelector("#summary progress");
  if (!progress || detail.connection !== stream) return;
  progress.remove();
  lost(document.getElementById("notice"));
});

// A page that nobody looks at is not read anew; nor one in which somebody marks text.
document.addEventListener("htmx:before:request", (event) => {
  if (event.target.id !== "live") return;
  const marked = getSelection();
  if (document.hidden || (!marked.isCollapsed && event.target.contains(marked.anchorNode))) event.preventDefault();
});

// An answer that is no page takes nothing away: what is shown stays, and is said to be old.
document.addEventListener("htmx:before:response", (event) => {
  if (event.target.id !== "live" || event.detail.ctx.response.status < 400) return;
  event.preventDefault();
  const stale = document.getElementById("stale").content.cloneNode(true);
  stale.querySelector("a").hidden = event.detail.ctx.response.status !== 401;
  document.getElementById("banner").replaceChildren(stale);
});
document.addEventListener("htmx:after:swap", ({ target }) => {
  if (target.id === "live") document.querySelector("#banner .stale")?.remove();
});

// "/" goes to where a person is looked for.
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.closest("input, textarea, select")) return;
  event.preventDefault();
  document.getElementById("find")?.focus();
});

// Where nobody can be recognized: look whether that is over.
const waiting = document.querySelector("[data-retry]");
if (waiting) {
  waiting.hidden = false;
  setInterval(async () => {
    const answer = await fetch("doctor", { method: "HEAD" }).catch(() => null);
    if (answer && answer.status !== 503) location.assign("doctor");
  }, 10000);
}

// How far it is, and what has become of it, stands at the top. The button that asked for a repair goes away with
// what was wrong: the focus goes to the answer.
document.addEventListener("submit", ({ target }) => {
  const top = document.getElementById("doctor");
  if (target.matches("#look, #repair") && top.getBoundingClientRect().top < 0) top.scrollIntoView();
});
document.addEventListener("htmx:finally:request", ({ detail }) => {
  if (detail.ctx !== asked) return;
  if (document.activeElement === document.body) {
    document.querySelector("#summary h1").focus({ preventScroll: true });
  }
});
