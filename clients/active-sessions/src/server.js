/** The calls of /api/user/active-sessions. */
const PAGE = 50; // rows, at first
const TIMEOUT = 15_000; // ms for an answer

export class Server {
  skew = 0; // ms by which its clock is ahead
  #element;

  constructor(element) {
    this.#element = element;
  }

  get base() {
    return this.#element.getAttribute("src") ?? "/api/user/active-sessions";
  }

  /** Return the body of a success; throw {status, body, wait} otherwise. */
  async ask(path, method = "GET", signals = [], sent = undefined) {
    let response;
    try {
      response = await fetch(this.base + path, {
        method,
        body: sent,
        headers: { Accept: "application/json", ...this.#element.headers },
        cache: "no-store",
        credentials: "include", // of another origin only where the server permits ours
        signal: AbortSignal.any([...signals, AbortSignal.timeout(TIMEOUT)]),
      });
    } catch {
      // A browser tells a page nothing of why another origin's answer was kept from it.
      if (/^http/.test(this.base)) console.warn(`SOJOURN_TRUSTED_ORIGINS=${location.origin}?`);
      throw { status: 0, body: {}, wait: 0 };
    }
    const { ok, status, headers } = response;
    this.skew = (Date.parse(headers.get("Date")) || Date.now()) - Date.now();
    const body = await response.json().catch(() => ({}));
    if (ok && body.success) return body;
    throw { status, body, wait: Number(headers.get("Retry-After")) || 0 };
  }

  page(shown, after, signals) {
    const limit = Math.min(200, Math.max(PAGE, shown)); // few clicks do
    return this.ask(`?limit=${limit}` + (after ? `&after=${encodeURIComponent(after)}` : ""), "GET", signals);
  }

  end(session) {
    return session ? this.ask(`/${encodeURIComponent(session.id)}`, "DELETE") : this.ask("/logout-others", "POST");
  }

  rename(id, name) {
    return this.ask(`/${encodeURIComponent(id)}`, "PATCH", [], JSON.stringify({ name }));
  }

  /** End one after another; return how many were ended by it. */
  async endEach(sessions) {
    let ended = 0;
    for (const each of sessions) {
      const { data } = await this.end(each).catch((fault) => {
        if (fault.status !== 404) throw fault;
        return { data: { ended: 0 } }; // somebody was quicker
      });
      ended += data.ended;
    }
    return ended;
  }
}
