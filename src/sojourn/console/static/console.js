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

// Hours of a week are counted in the reader's zone: what the server reads of it from the next page on.
const { timeZone: ownZone } = Intl.DateTimeFormat().resolvedOptions();
if (ownZone) {
  const path = new URL(".", location.href).pathname;
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `sojourn-zone=${encodeURIComponent(ownZone)}; Path=${path}; Max-Age=31536000; SameSite=Lax${secure}`;
}

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

// A page that nobody looks at is not read anew; nor one in which somebody marks text, or selects holders.
document.addEventListener("htmx:before:request", (event) => {
  if (event.target.id !== "live") return;
  const marked = getSelection();
  const selects = event.target.querySelector(".pick :checked");
  if (document.hidden || selects || (!marked.isCollapsed && event.target.contains(marked.anchorNode))) event.preventDefault();
});

// Several holders: how many, and that the page stands still meanwhile.
const picks = () => [...document.querySelectorAll(".pick input")];
const offerAll = () => {
  const all = document.querySelector(".chosen-bar .all");
  if (all) all.hidden = false;
};
offerAll();
document.addEventListener("htmx:after:swap", offerAll);
document.addEventListener("change", ({ target }) => {
  if (target.id === "select-all") picks().forEach((pick) => (pick.checked = target.checked));
  else if (!target.matches(".pick input")) return;
  const chosen = picks().filter((pick) => pick.checked).length;
  const all = document.getElementById("select-all");
  all.checked = chosen > 0 && chosen === picks().length;
  all.indeterminate = chosen > 0 && !all.checked;
  document.getElementById("selected").classList.toggle("some", chosen);
  document.getElementById("selected").textContent = chosen
    ? `${chosen} selected. The page stands still meanwhile.`
    : "Select several to free them together.";
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

// What happens can be made to stand still; when it goes on, it is read anew. What is chosen stands in the address.
root.dataset.scripts = "";
const isFeed = (target) => target.matches?.("ol.feed");
document.addEventListener("click", ({ target }) => {
  const button = target.closest("#pause");
  if (!button) return;
  const paused = button.toggleAttribute("data-paused");
  button.textContent = paused ? "Resume" : "Pause";
  if (!paused) button.dispatchEvent(new Event("resumed"));
});
document.addEventListener("htmx:sse:before:message", (event) => {
  if (isFeed(event.target) && document.querySelector("#pause[data-paused]")) event.preventDefault();
});
document.addEventListener("htmx:before:response", (event) => {
  if (isFeed(event.target) && event.detail.ctx.response.status >= 400) event.preventDefault();
});
document.addEventListener("change", ({ target }) => {
  if (target.id === "choice") history.replaceState(null, "", `overview?feed=${encodeURIComponent(target.value)}`);
});

// "/", ⌘K and Ctrl+K find anything. Arrows lead through what was found; Enter takes the first.
const palette = document.getElementById("palette");
const hits = () => [...palette.querySelectorAll(".hits a")];
const find = () => {
  if (palette.open) return;
  document.querySelector("#navigation:popover-open")?.hidePopover();
  palette.showModal();
  palette.querySelector("input").select();
  palette.querySelector("input").dispatchEvent(new Event("opened"));
};
if (palette) {
  if (/Mac|iPhone|iPad/.test(navigator.platform)) {
    for (const key of document.querySelectorAll("kbd[data-mac]")) key.textContent = key.dataset.mac;
  }
  document.addEventListener("keydown", (event) => {
    const { key, target } = event;
    const command = (event.ctrlKey || event.metaKey) && !event.altKey && key.toLowerCase() === "k";
    const slash = key === "/" && !event.ctrlKey && !event.metaKey && !target.closest("input, textarea, select");
    if (!command && !slash) return;
    event.preventDefault();
    find();
  });
  document.getElementById("find").addEventListener("pointerdown", (event) => {
    event.preventDefault();
    find();
  });
  palette.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const stops = [palette.querySelector("input"), ...hits()];
    stops[(stops.indexOf(document.activeElement) + step + stops.length) % stops.length].focus();
  });
  palette.addEventListener("click", ({ target }) => target === palette && palette.close());
}

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
