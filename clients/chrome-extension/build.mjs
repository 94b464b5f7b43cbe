// Bundles the extension into out/: node build.mjs [where esbuild is installed]

import { cpSync, rmSync } from "node:fs";
import process from "node:process";
import { pathToFileURL } from "node:url";

const here = (path) => new URL(path, import.meta.url).pathname;
const modules = process.argv[2] ?? here("../typescript/node_modules");
const { default: esbuild } = await import(pathToFileURL(`${modules}/esbuild/lib/main.js`).href);

rmSync(here("out"), { recursive: true, force: true });
cpSync(here("static"), here("out"), { recursive: true });
await esbuild.build({
  entryPoints: ["worker", "popup", "options", "content"].map((name) => here(`src/${name}.ts`)),
  outdir: here("out"),
  bundle: true,
  format: "esm",
  target: "chrome120",
  alias: {
    "@sojourn/client": here("../typescript/src/index.ts"),
    "@sojourn/client/extension": here("../typescript/src/extension.ts"),
  },
  logLevel: "warning",
});
