// Writes src/generated.ts from ../../spec/openapi.json: the calls that this package makes, what they take and
// answer, and every code that a server refuses by. `--check` says whether it is as the document is.

import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import openapi, { astToString } from "openapi-typescript";

const CALLS = [
  "list_active_sessions", "end_active_session", "end_other_active_sessions", "rename_active_session",
  "acquire", "heartbeat", "release", "begin_session", "check_session", "save_current", "rotate_current",
  "end_current", "end_others", "end_sessions", "list_sessions",
];
const document = JSON.parse(readFileSync(new URL("../../spec/openapi.json", import.meta.url), "utf8"));
const target = new URL("src/generated.ts", import.meta.url);

function codes(value, found) {
  if (Array.isArray(value)) value.forEach((each) => codes(each, found));
  else if (value && typeof value === "object") {
    if (Array.isArray(value.code?.enum)) value.code.enum.forEach((each) => found.add(each));
    Object.values(value).forEach((each) => codes(each, found));
  }
  return found;
}

function named(value, schemas, found) {
  if (Array.isArray(value)) value.forEach((each) => named(each, schemas, found));
  else if (value && typeof value === "object") {
    const name = typeof value.$ref === "string" ? value.$ref.split("/").at(-1) : undefined;
    if (name && !found.has(name)) {
      found.add(name);
      named(schemas[name], schemas, found);
    }
    Object.values(value).forEach((each) => named(each, schemas, found));
  }
  return found;
}

// A refusal is the same for all: `Problem`, told apart by its code.
function plain(operation) {
  const good = Object.entries(operation.responses).filter(([status]) => status.startsWith("2"));
  return { ...operation, responses: Object.fromEntries(good) };
}

const every = [...codes(document, new Set())].sort();
const paths = {};
for (const [path, operations] of Object.entries(document.paths)) {
  const kept = Object.entries(operations).filter(([, each]) => CALLS.includes(each.operationId));
  if (kept.length) paths[path] = Object.fromEntries(kept.map(([method, each]) => [method, plain(each)]));
}
const schemas = document.components.schemas;
const used = named([paths, schemas.SessionProblem, { $ref: "#/components/schemas/SessionProblem" }], schemas, new Set(["Problem"]));
named(schemas.Problem, schemas, used);
document.paths = paths;
document.components.schemas = Object.fromEntries(Object.entries(schemas).filter(([name]) => used.has(name)));
const text = [
  "// Made by `make types` from spec/openapi.json. Change that.\n",
  astToString(await openapi(document)),
  "/** Every code that a server refuses by. */",
  `export type ServerCode =\n${every.map((code) => `    | "${code}"`).join("\n")};\n`,
].join("\n");

if (process.argv.includes("--check")) {
  if (readFileSync(target, "utf8") !== text) {
    console.error("src/generated.ts is not as spec/openapi.json is: run `make reference types`.");
    process.exitCode = 1;
  }
} else writeFileSync(target, text);
