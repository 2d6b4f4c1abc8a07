// Runs clients/cases.json, the table that all SDKs share.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { type DescMethod, fromJson, type JsonObject, type JsonValue, type Message, toJson } from "@bufbuild/protobuf";
import { SERVICES } from "../gen/services.js";
import * as sdk from "../src/index.js";
import { persist, program } from "./server.js";

/** A call without faults. */
interface Step {
  readonly call: string;
  readonly request: JsonObject;
}

/** An error that is expected. */
interface ExpectedError {
  readonly code: string;
  readonly reason?: string;
  readonly message?: string;
  readonly fields?: Record<string, string>;
  readonly metadata?: Record<string, string>;
  readonly resource?: { readonly type: string; readonly name: string };
  readonly retry_after_seconds?: number;
  readonly request_id?: boolean;
  readonly oldest?: number;
}

/** A row of the table; the table itself says what each part means. */
interface Case extends Step {
  readonly name: string;
  readonly kind?: "unary" | "pages" | "operation" | "watch";
  readonly key?: string;
  readonly setup?: readonly Step[];
  readonly then?: readonly Step[];
  readonly faults?: readonly JsonObject[];
  readonly deadline_seconds?: number;
  readonly wait_seconds?: number;
  readonly take?: number;
  readonly restart_after?: number;
  readonly expect: {
    readonly response?: JsonObject;
    readonly error?: ExpectedError;
    readonly operation?: keyof typeof sdk.OperationStatus;
    readonly operation_error?: { readonly code: string; readonly message: string };
    readonly attempts?: number;
    readonly seconds?: readonly [number, number];
    readonly items?: readonly string[];
    readonly items_contain?: readonly string[];
    readonly unreachable?: readonly string[];
    readonly progress?: boolean;
    readonly gapless?: boolean;
  };
}

/** What the user has seen. */
interface Outcome {
  response?: JsonValue;
  items: { readonly name?: string; readonly sequence?: bigint }[];
  unreachable: string[];
  progress: string[];
  error?: unknown;
}

const clients = resolve(import.meta.dirname, "../../..");
const table = JSON.parse(readFileSync(join(clients, "cases.json"), "utf8")) as { readonly cases: readonly Case[] };
const own = [...Object.values(SERVICES)].flatMap((service) => service.methods as readonly DescMethod[]);

let process_: ChildProcess;
let bench: { readonly endpoint: string; readonly direct: string; readonly key: string; readonly control: string };
let warnings: string[] = [];
process.on("warning", (warning) => warnings.push(warning.name));

before(async () => {
  const env = { ...process.env, TEST_SHOREGUARD_BIN: program() };
  const child = spawn(join(clients, "bench"), { env, stdio: ["pipe", "pipe", "inherit"] });
  process_ = child;
  const [line] = (await once(createInterface(child.stdout), "line")) as [string];
  bench = JSON.parse(line) as typeof bench;
});
after(async () => {
  process_.stdin?.end();
  await once(process_, "exit");
});

async function control(method: string, path: string, body?: unknown): Promise<Record<string, number>> {
  const text = body === undefined ? null : JSON.stringify(body);
  const response = await fetch(bench.control + path, { method, body: text });
  return (await response.json()) as Record<string, number>;
}

/** A method of a client, by the name of the table. */
function find(client: sdk.Client, call: string): { method: DescMethod; run: (...given: unknown[]) => unknown } {
  const [service, name] = call.split("/");
  const method = own.find((one) => one.parent.name === service && one.name === name);
  const key = Object.entries(SERVICES).find(([, one]) => one.name === service)?.[0];
  assert.ok(method !== undefined && key !== undefined, call);
  const services = client as unknown as Record<string, Record<string, (...given: unknown[]) => unknown>>;
  return { method, run: services[key]![method.localName]! };
}

async function step(client: sdk.Client, { call, request }: Step): Promise<void> {
  const { method, run } = find(client, call);
  try {
    await run(fromJson(method.input, request));
  } catch (error) {
    if (!(error instanceof sdk.AlreadyExists)) throw error;
  }
}

async function run(client: sdk.Client, row: Case, disturb: (count: number) => void): Promise<Outcome> {
  const seen: Outcome = { items: [], unreachable: [], progress: [] };
  const { method, run } = find(client, row.call);
  const request = fromJson(method.input, row.request);
  const options = row.deadline_seconds === undefined ? {} : { timeoutMs: row.deadline_seconds * 1000 };
  try {
    if (row.kind === "pages") {
      const list = run(request) as sdk.Pages<Outcome["items"][0], Message>;
      for await (const item of list) seen.items.push(item);
      seen.unreachable = list.unreachable.map((missing) => missing.gateway);
    } else if (row.kind === "operation") {
      const operation = (await run(request)) as sdk.OperationHandle;
      const done = await operation.wait({
        timeoutMs: (row.wait_seconds ?? 60) * 1000,
        onProgress: (state) => seen.progress.push(`${state.progressPercent} ${state.progressMessage}`),
      });
      seen.response = toJson(sdk.OperationSchema, done);
    } else if (row.kind === "watch") {
      for await (const item of run(request) as sdk.Watch<sdk.Event, Message>) {
        seen.items.push(item);
        disturb(seen.items.length);
        if (seen.items.length === row.take) break;
      }
    } else {
      seen.response = toJson(method.output, (await run(request, options)) as Message, { useProtoFieldName: true });
    }
  } catch (error) {
    seen.error = error;
  }
  return seen;
}

function checkError(error: unknown, expected: ExpectedError): void {
  assert.ok(error instanceof sdk.ShoreguardError, String(error));
  assert.equal(error.code, expected.code, error.message);
  if (expected.reason !== undefined) assert.equal(error.reason, expected.reason);
  assert.ok(error.rawMessage.includes(expected.message ?? ""), error.message);
  for (const part of [error.code, error.rawMessage, error.reason ?? "", error.requestId ?? ""]) {
    assert.ok(error.message.includes(part), error.message);
  }
  for (const [key, part] of Object.entries(expected.fields ?? {})) assert.ok(error.fields[key]?.includes(part));
  for (const [key, part] of Object.entries(expected.metadata ?? {})) assert.ok(error.metadata[key]?.includes(part));
  if (expected.resource !== undefined) assert.deepEqual(error.resource, expected.resource);
  if (expected.retry_after_seconds !== undefined) {
    assert.equal(error.retryAfterMs, expected.retry_after_seconds * 1000);
  }
  if (expected.request_id === true) assert.ok(error.requestId);
  if (expected.oldest !== undefined) {
    assert.ok(error instanceof sdk.CursorExpired);
    assert.equal(error.oldest, BigInt(expected.oldest));
  }
}

function contains(whole: JsonValue | undefined, part: JsonValue): boolean {
  if (typeof part !== "object" || part === null) return whole === part;
  const of = whole as JsonObject | undefined;
  return Object.entries(part).every(([key, value]) => contains(of?.[key], value as JsonValue));
}

function check(row: Case, seen: Outcome, seconds: number, calls: number): void {
  const { expect } = row;
  if (expect.error !== undefined) checkError(seen.error, expect.error);
  else if (expect.operation_error !== undefined) {
    assert.ok(seen.error instanceof sdk.OperationFailed, String(seen.error));
    assert.equal(seen.error.reason, expect.operation_error.code);
    assert.ok(seen.error.message.includes(expect.operation_error.message), seen.error.message);
    assert.ok(seen.error.message.includes(seen.error.operation.id));
  } else assert.equal(seen.error, undefined, String(seen.error));
  if (expect.response !== undefined) assert.ok(contains(seen.response, expect.response), JSON.stringify(seen.response));
  if (expect.attempts !== undefined) {
    // A busy server can answer UNAVAILABLE by itself, which adds attempts.
    const isMore = expect.error === undefined && calls > expect.attempts;
    assert.ok(calls === expect.attempts || isMore, `${calls} attempts in place of ${expect.attempts}`);
  }
  if (expect.seconds !== undefined) {
    assert.ok(seconds >= expect.seconds[0] && seconds <= expect.seconds[1], `${seconds} s`);
  }
  const names = seen.items.map((item) => item.name);
  if (expect.items !== undefined) assert.deepEqual(names, expect.items);
  for (const name of expect.items_contain ?? []) assert.ok(names.includes(name), `${name} in ${names.join()}`);
  for (const name of expect.unreachable ?? []) {
    assert.ok(seen.unreachable.includes(name));
    assert.ok(warnings.includes("PartialResult"));
  }
  if (expect.operation !== undefined) assert.ok(contains(seen.response, { status: expect.operation }));
  if (expect.progress === true) {
    assert.ok(seen.progress.length > 0);
    assert.ok(seen.progress.every((state, at) => state !== seen.progress[at + 1]), seen.progress.join("; "));
  }
  if (expect.gapless === true) {
    const first = seen.items[0]!.sequence!;
    assert.deepEqual(seen.items.map((item) => item.sequence), seen.items.map((_, at) => first + BigInt(at)));
  }
}

for (const raw of table.cases) {
  test(raw.name, { timeout: 90_000 }, async () => {
    const unique = randomUUID().slice(0, 8);
    let row = JSON.parse(JSON.stringify(raw).replaceAll("$UNIQUE", unique)) as Case;
    await control("PUT", "/faults", []);
    using helper = new sdk.Client({ endpoint: bench.endpoint, key: bench.key });
    if (row.restart_after !== undefined) {
      // Only the events of this case, so that the restart is in the middle of them.
      const newest = (await helper.events.listEvents({ pageSize: 1000 }).all()).at(-1)!.sequence;
      row = { ...row, request: { ...row.request, after_sequence: `${newest}` } };
      for (let at = 0; at < row.restart_after!; at += 1) {
        await helper.groups.createGroup({ name: `s${at}-${unique}`, role: sdk.Role.VIEWER });
      }
    }
    for (const one of row.setup ?? []) await step(helper, one);
    let written: Promise<void> | undefined;
    const disturb = (count: number) => {
      if (count !== row.restart_after) return;
      written = (async () => {
        await control("POST", "/restart", { wait: false });
        for (const one of row.then ?? []) await persist(() => step(helper, one));
      })();
    };
    await control("PUT", "/faults", row.faults ?? []);
    warnings = [];
    using client = new sdk.Client({ endpoint: bench.endpoint, key: row.key ?? bench.key });
    const began = performance.now();
    const seen = await run(client, row, disturb);
    const seconds = (performance.now() - began) / 1000;
    await written;
    await new Promise(setImmediate);
    check(row, seen, seconds, (await control("GET", "/calls"))[row.call.split("/")[1]!] ?? 0);
  });
}
