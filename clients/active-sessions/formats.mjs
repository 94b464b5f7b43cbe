// Writes how numbers and times are said in each language, from this Node's own data (CLDR), for servers, which have
// none: node clients/active-sessions/formats.mjs > src/sojourn/people/catalogs/formats.json
// A test holds that file to what Node says.

import { readdirSync } from "node:fs";
import process from "node:process";

const CATALOGS = new URL("../../src/sojourn/people/catalogs/", import.meta.url);
const UNITS = ["month", "day", "hour", "minute"];
const COUNTS = [0, 1, 2, 3, 5, 11, 100]; // one of each plural category of each language
const SPECIAL = { month: 1, day: 2, hour: 0, minute: 0 }; // up to which distance a word stands for the count

const put = (parts, names) => parts.map(({ type, value }) => (names[type] ? `{${names[type]}}` : value)).join("");

function relative(lang) {
  const words = new Intl.RelativeTimeFormat(lang, { numeric: "auto" });
  const plural = new Intl.PluralRules(lang);
  const said = { now: words.format(0, "second"), special: {}, past: {}, future: {} };
  for (const unit of UNITS) {
    for (let n = 1; n <= SPECIAL[unit]; n++)
      for (const count of [-n, n]) {
        const text = words.format(count, unit);
        if (!/\d/.test(text)) (said.special[unit] ??= {})[count] = text;
      }
    const fixed = new Intl.RelativeTimeFormat(lang, { numeric: "always" });
    for (const n of COUNTS) {
      const form = plural.select(n);
      const pattern = (count) => put(fixed.formatToParts(count, unit), { integer: "n" });
      (said.past[unit] ??= {})[form] ??= pattern(-n || -0);
      (said.future[unit] ??= {})[form] ??= pattern(n);
    }
  }
  return said;
}

function dates(lang) {
  const format = new Intl.DateTimeFormat(lang, { dateStyle: "medium", timeStyle: "short", hourCycle: "h23", timeZone: "UTC" });
  const parts = (month, day, hour) => format.formatToParts(Date.UTC(2026, month, day, hour, 5));
  const names = Array.from({ length: 12 }, (_, month) => parts(month, 24, 10).find(({ type }) => type === "month").value);
  const padded = (type) => parts(0, 4, 4).find((part) => part.type === type).value.length === 2;
  // Without the marks of direction: digits and what stands between them are read from left to right everywhere.
  const pattern = put(parts(0, 24, 10), { month: "month", day: "day", year: "year", hour: "hour", minute: "minute" }).replace(/[\u200e\u200f]/g, "");
  return { pattern, months: names, padDay: padded("day"), padHour: padded("hour") };
}

function numbers(lang) {
  const parts = new Intl.NumberFormat(lang).formatToParts(1_234_567);
  const grouped = new Intl.NumberFormat(lang).format(1_234).length > 4;
  return { group: parts.find(({ type }) => type === "group").value, from: grouped ? 1_000 : 10_000 };
}

const languages = {};
for (const file of readdirSync(CATALOGS).sort()) {
  const lang = file.replace(".json", "");
  if (lang !== "formats") languages[lang] = { ...relative(lang), dates: dates(lang), numbers: numbers(lang) };
}
process.stdout.write(`${JSON.stringify({ cldr: process.versions.cldr, languages }, null, 1)}\n`);
