// The programs of README.md run as they are.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { Server } from "./server.js";

const root = resolve(import.meta.dirname, "../..");
const folder = mkdtempSync(join(tmpdir(), "shoreguard-readme-"));
let server: Server;

before(async () => {
  server = await Server.start();
  mkdirSync(join(folder, "node_modules/@shoreguard"), { recursive: true });
  symlinkSync(root, join(folder, "node_modules/@shoreguard/client"));
});
after(async () => {
  rmSync(folder, { recursive: true });
  await server.remove();
});

test("every program runs", async () => {
  const programs = [...readFileSync(join(root, "README.md"), "utf8").matchAll(/^```js\n(.*?)^```/gms)];
  assert.equal(programs.length, 4);
  const printed: string[] = [];
  for (const [at, [, text]] of programs.entries()) {
    const path = join(folder, `${at}.mjs`);
    writeFileSync(path, text!);
    const env = { ...process.env, HOME: folder, SHOREGUARD_ENDPOINT: server.endpoint, SHOREGUARD_KEY: server.key };
    printed.push((await promisify(execFile)(process.execPath, [path], { env, timeout: 60_000 })).stdout);
  }
  assert.match(printed[0]!, /^dev-0-0 .*\ndev-0-1 .*\n(?:\d+ % .*\n)+ready: agent-1\n1n service_principal\.created\n/);
  assert.match(printed[1]!, /^\d+\.\d+\.\d+/);
  assert.match(printed[3]!, /^true NOT_FOUND \{ type: 'gateway', name: 'nope' \} [0-9a-f-]{36}\n$/);
});
