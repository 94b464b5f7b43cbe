import { read, send, SETTINGS, type Settings } from "./shared.js";

const form = document.getElementById("form") as HTMLFormElement;
const said = document.getElementById("said")!;
document.getElementById("origin")!.textContent = location.origin;

const settings = await read<Settings>(chrome.storage.local, SETTINGS);
for (const [name, value] of Object.entries(settings ?? {})) (form.elements.namedItem(name) as HTMLInputElement).value = String(value);

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  await chrome.storage.local.set({ [SETTINGS]: Object.fromEntries(new FormData(form)) });
  said.textContent = "Signing in …";
  await send("settings");
  said.textContent = "Saved. The button of the extension shows your seat.";
});
document.getElementById("out")!.addEventListener("click", async () => {
  await send("sign out");
  form.reset();
  said.textContent = "Signed out; the seat is given back.";
});
