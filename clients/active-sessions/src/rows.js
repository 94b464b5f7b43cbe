/** What stands in the rows of the list: names that tell sessions apart, and times. */
import { icon, say, show } from "./markup.js";

export const ALIKE = 8; // sessions of one device that are shown one by one

export const nameOf = (session, words) => session.name || session.device || words.text("unknownDevice");

/** Name sessions so that no two are called the same: where needed with place, last use, sign-in, and a number. */
export const tellApart = (all, words, now) => {
  const names = all.map((each) => nameOf(each, words));
  const more = [
    (each) => each.location || each.ipAddress,
    (each) => words.text("used", { when: words.ago(now - new Date(each.lastUsedAt), "used") }),
    (each) => words.text("begun", { when: words.exact(new Date(each.createdAt), "begun") }),
    (_, n) => n + 1,
  ];
  for (const word of more) {
    const known = [...names];
    known.forEach((name, i) => {
      if (known.indexOf(name) === known.lastIndexOf(name)) return;
      const said = word(all[i], i);
      if (said) names[i] += `, ${said}`;
    });
  }
  return new Map(all.map((each, i) => [each.id, names[i]]));
};

export const fill = (row, session, name, words, canRename) => {
  const { kind, isCurrent, seats, location, ipAddress, device, lastLocation, lastIpAddress } = session;
  const last = lastLocation || lastIpAddress;
  if (row.session?.kind !== kind) row.icon.replaceChildren(icon(kind));
  row.session = session;
  row.root.classList.toggle("current", isCurrent);
  say(row.device, nameOf(session, words));
  say(row.here, words.text("thisDevice"));
  show(row.here, isCurrent);
  say(row.seats, words.text("seats", { n: seats }));
  show(row.seats, seats);
  say(row.place, location ?? "");
  say(row.there, location ?? "");
  say(row.ip, ipAddress ?? "");
  say(row.says, session.name ? device : "");
  say(row.last, last && words.text("lastFrom", { place: last }));
  show(row.rename, canRename);
  say(row.rename, words.text("rename"));
  row.rename.ariaLabel = words.text("renameOf", { device: name });
  say(row.end, words.text("signOut"));
  row.end.ariaLabel = words.text("signOutOf", { device: name });
};

export const setTimes = ({ session, used, begun, ends, lately, facts, says, last }, name, words, now) => {
  const set = (time, sentence, instant) => {
    const at = new Date(instant);
    say(time, words.text(sentence, { when: words.ago(now - at, sentence) }));
    time.dateTime = instant;
    time.title = words.exact(at, sentence);
    say(time.nextSibling, ` (${time.title})`);
  };
  set(used, session.isCurrent ? "now" : "used", session.lastUsedAt);
  set(begun, "begun", session.createdAt);
  set(ends, "ends", session.expiresAt);
  say(lately, session.isCurrent ? "" : used.textContent);
  say(facts, words.text("facts"));
  facts.ariaLabel = `${facts.textContent}: ${name}`;
  say(facts.nextSibling, [says.textContent, session.ipAddress, last.textContent, begun.textContent, ends.textContent].filter(Boolean).join(" · "));
};

/** One row for sessions of one device. */
export const fillGroup = (group, sessions, device, words) => {
  const n = sessions.length;
  group.sessions = sessions;
  say(group.unfold, words.text("unfold"));
  group.unfold.ariaLabel = `${group.unfold.textContent}: ${device}`;
  say(group.count, words.text("grouped", { n }));
  say(group.all, words.text("endAll", { n }));
  group.all.ariaLabel = words.text("endAllOf", { n, device });
};

/** Return what puts elements into lists one after another. Those in their place already are not moved. */
export const placing = () => {
  const placed = new Map(); // the last of each list: what comes after it may yet be moved elsewhere
  return (list, root) => {
    const last = placed.get(list);
    const at = last ? last.nextSibling : list.firstChild;
    if (root !== at) list.insertBefore(root, at);
    placed.set(list, root);
  };
};
