/** The words of an element, in the language of where it stands. */
import { STRINGS } from "./strings.js";

const UNITS = { month: 2_629_800, day: 86_400, hour: 3_600, minute: 60 }; // seconds

export class Words {
  own = {};
  #element;

  constructor(element) {
    this.#element = element;
  }

  get #lang() {
    return this.#element.closest("[lang]")?.lang || undefined;
  }

  text(name, values = {}) {
    let words = this.own[name] ?? STRINGS[name];
    if (words.other) words = words[new Intl.PluralRules(this.#lang).select(values.n)] ?? words.other;
    // FSI and PDI keep a text's direction of writing from what stands around it.
    const apart = (_, key) => values[key].toLocaleString(this.#lang).replace(/.*[^ -~].*/, "\u2068$&\u2069");
    return words.replace(/{(\w+)}/g, apart);
  }

  /** Say why a session is over; nothing if there are no words for it. */
  reason(name) {
    return (this.own.reasons ?? STRINGS.reasons)[name] ?? "";
  }

  name(session) {
    return session.device || this.text("unknownDevice");
  }

  /** Name sessions so that no two are called the same: where needed with place, last use, sign-in, a number. */
  names(sessions, now) {
    const names = sessions.map((each) => this.name(each));
    const more = [
      (each) => each.location || each.ipAddress,
      (each) => this.text("used", { when: this.ago(now - new Date(each.lastUsedAt)) }),
      (each) => this.text("begun", { when: this.exact(new Date(each.createdAt)) }),
      (_, n) => n + 1,
    ];
    for (const word of more) {
      const known = [...names];
      known.forEach((name, i) => {
        const said = known.indexOf(name) !== known.lastIndexOf(name) && word(sessions[i], i);
        if (said) names[i] += `, ${said}`;
      });
    }
    return new Map(sessions.map(({ id }, i) => [id, names[i]]));
  }

  /** Say when something was, or will be, so many ms ago. */
  ago(ms) {
    const seconds = Math.abs(ms) / 1000;
    if (seconds < 60) return this.text("justNow");
    const [unit, size] = Object.entries(UNITS).find((each) => seconds >= each[1]);
    const format = new Intl.RelativeTimeFormat(this.#lang, { numeric: "auto" });
    return format.format(ms > 0 ? -Math.floor(seconds / size) : Math.round(seconds / size), unit);
  }

  exact(instant) {
    return new Intl.DateTimeFormat(this.#lang, { dateStyle: "medium", timeStyle: "short" }).format(instant);
  }
}
