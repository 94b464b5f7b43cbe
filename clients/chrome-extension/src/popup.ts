import { type Command, read, send, VIEW, type View } from "./shared.js";

const byId = (id: string) => document.getElementById(id)!;

function title({ state, reason, position, error }: View): string {
  if (state === "safe") return "You have a seat.";
  if (state === "jeopardy") return "You have a seat; the server does not answer.";
  if (state === "signed out") return "Sign in first.";
  if (state === "asking") return position ? `Number ${position} in the line` : "Asking for a seat …";
  if (state === "released" || state === "new") return reason === "no_tab" ? "Open the application to take a seat." : "You have no seat.";
  return error ?? "The seat was lost.";
}

function details({ state, feature, limit, inUse, hint, waiting }: View): string {
  const said = [];
  if (feature && state !== "signed out") said.push(`Feature: ${feature}.`);
  if (limit !== undefined && state !== "safe") said.push(`${inUse} of ${limit} seats are in use.`);
  if (waiting && state === "asking") said.push(`${waiting} in the line.`);
  if (hint && state === "lost") said.push(hint);
  return said.join(" ");
}

function show(view: View = { state: "signed out", reason: "settings" }): void {
  byId("title").textContent = title(view);
  byId("details").textContent = details(view);
  const refused = view.state === "lost" && view.reason === "seat_limit";
  byId("mine").replaceChildren(
    ...(view.mine ?? []).map((name) => Object.assign(document.createElement("li"), { textContent: name })),
  );
  byId("takeover").hidden = !(refused || view.state === "asking") || !view.mine?.length;
  byId("wait").hidden = !refused;
  byId("acquire").hidden = refused || !["lost", "released", "new"].includes(view.state);
  byId("release").hidden = !["safe", "jeopardy", "asking"].includes(view.state);
}

for (const command of ["takeover", "wait", "acquire", "release"] as Command[])
  byId(command).addEventListener("click", () => void send(command));
chrome.storage.session.onChanged.addListener((changes) => {
  if (VIEW in changes) show(changes[VIEW]!.newValue as View);
});
show(await read<View>(chrome.storage.session, VIEW));
