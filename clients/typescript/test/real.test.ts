// The client against a real server with two simulated gateways.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import * as sdk from "../src/index.js";
import { listsOf } from "../src/core/bind.js";
import { SERVICES } from "../gen/services.js";
import * as web from "../src/web.js";
import { OpenShell } from "./openshell.js";
import { Proxy } from "./proxy.js";
import { persist, Server } from "./server.js";

let server: Server;
let proxy: Proxy;
let client: sdk.Client;

before(async () => {
  server = await Server.start();
  proxy = await Proxy.start(server.port);
  client = new sdk.Client({ endpoint: server.endpoint, key: server.key });
});
after(async () => {
  client.close();
  await proxy.close();
  await server.remove();
});

test("a list reads page by page", async () => {
  const sizes: number[] = [];
  const list = client.gateways.listGateways({ pageSize: 1 });
  for await (const page of list.pages()) sizes.push(page.gateways.length);
  assert.deepEqual(sizes, [1, 1]);
  assert.deepEqual((await list.all()).map((gateway) => gateway.name), ["dev-0-0", "dev-0-1"]);
  const events = await client.events.listEvents({ pageSize: 2 }).all();
  assert.deepEqual(events.map((event) => event.sequence), events.map((_, at) => BigInt(at + 1)));
});

test("every list has one list of items", () => {
  for (const service of Object.values(SERVICES)) {
    for (const method of service.methods) {
      if (method.output.field["nextPageToken"] === undefined) continue;
      assert.equal(listsOf(method.output).length, 1, `${service.name}.${method.name}`);
    }
  }
});

test("an operation reports its progress and its end", async () => {
  const seen: string[] = [];
  const operation = await client.sandboxes.createSandbox({ gateway: "dev-0-1", name: "ts-1" });
  const onProgress = (state: sdk.Operation) => seen.push(`${state.progressPercent} ${state.progressMessage}`);
  const done = await operation.wait({ timeoutMs: 60_000, onProgress });
  assert.equal(done.status, sdk.OperationStatus.SUCCEEDED);
  assert.equal(done.sandbox, "ts-1");
  assert.ok(operation.done);
  assert.ok(seen.length > 0);
  assert.equal(new Set(seen).size, seen.length, "a state is reported once");
});

test("an operation that fails says why", async () => {
  const operation = await client.sandboxes.startExecSandbox({
    gateway: "dev-0-1",
    sandbox: "ts-1",
    command: ["sleep", "60"],
  });
  await assert.rejects(operation.wait({ timeoutMs: 300 }), (error: unknown) => {
    assert.ok(error instanceof sdk.DeadlineExceeded, String(error));
    return true;
  });
  await operation.cancel();
  await assert.rejects(operation.wait({ timeoutMs: 60_000 }), (error: unknown) => {
    assert.ok(error instanceof sdk.OperationFailed, String(error));
    assert.equal(error.reason, "CANCELLED");
    assert.equal(error.operation.id, operation.id);
    return true;
  });
});

test("a command gets its input and returns its status", async () => {
  async function* input() {
    yield { gateway: "dev-0-1", sandbox: "ts-1", command: ["cat"] };
    yield { input: { case: "stdin" as const, value: new TextEncoder().encode("hello") } };
  }
  let text = "";
  let status: number | undefined;
  for await (const { output } of client.sandboxes.execSandbox(input())) {
    if (output.case === "stdout") text += new TextDecoder().decode(output.value);
    if (output.case === "exitCode") status = output.value;
  }
  assert.deepEqual([text, status], ["hello", 0]);
});

test("a lost answer of a write is not a second write", async () => {
  const lossy = new sdk.Client({ endpoint: proxy.endpoint, key: server.key });
  await lossy.gateways.listGateways({}).all();
  proxy.lose = 1;
  const { group } = await lossy.groups.createGroup({ name: "once", role: sdk.Role.VIEWER });
  assert.equal(group?.name, "once");
  assert.equal(proxy.lose, 0);
  lossy.close();
});

test("a watch resumes after a lost connection", async () => {
  const lossy = new sdk.Client({ endpoint: proxy.endpoint, key: server.key });
  const watch = lossy.events.watchEvents({ afterSequence: 0n });
  const seen: bigint[] = [];
  let last = "";
  for await (const event of watch) {
    seen.push(event.sequence);
    last = event.name;
    if (seen.length === 3) {
      proxy.drop();
      await client.groups.createGroup({ name: "watched", role: sdk.Role.VIEWER });
    }
    if (last === "group.created" && event.payloadJson.includes("watched")) break;
  }
  assert.deepEqual(seen, seen.map((_, at) => BigInt(at + 1)), "no event is missing or repeated");
  assert.equal(watch.position, seen.at(-1));
  lossy.close();
});

test("a watch from now on fails instead of skipping", async () => {
  const lossy = new sdk.Client({ endpoint: proxy.endpoint, key: server.key });
  const watch = lossy.events.watchEvents({ afterSequence: -1n, names: ["group.created"] });
  const first = watch[Symbol.asyncIterator]().next();
  const outcome = first.then(
    () => "an event",
    (error: unknown) => error,
  );
  let ended = false;
  void outcome.then(() => (ended = true));
  while (!ended) {
    proxy.drop();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.ok((await outcome) instanceof sdk.Unavailable);
  lossy.close();
});

test("a canceled watch ends without an error", async () => {
  const watch = client.events.watchEvents({ afterSequence: 0n });
  let count = 0;
  for await (const _ of watch) {
    count += 1;
    watch.cancel();
  }
  assert.ok(count >= 1);
  const controller = new AbortController();
  const gateways = client.gateways.watchGateways({}, { signal: controller.signal });
  await assert.rejects(async () => {
    for await (const _ of gateways) controller.abort();
  }, sdk.Cancelled);
});

test("a session is refreshed before its end", async () => {
  const answer = await client.users.inviteUser({ email: "kim@example.com", role: sdk.Role.VIEWER });
  const token = answer.inviteToken;
  const password = "a long and unusual password 7";
  await client.auth.acceptInvite({ inviteToken: token, password });
  const { sessionToken, refreshToken, expireTime } = await client.auth.login({ email: "kim@example.com", password });
  const login = sdk.sessionOf({ sessionToken, refreshToken, expireTime });
  const store = new sdk.MemoryStore({ ...login, expireTimeMs: Date.now() + 30_000 });
  const kim = new sdk.Client({ endpoint: server.endpoint, session: store });
  const all = await Promise.all(Array.from({ length: 20 }, () => kim.auth.getCurrentIdentity({})));
  assert.ok(all.every((identity) => identity.actor === "kim@example.com"));
  assert.notEqual((await store.read())?.refreshToken, login.refreshToken);
  kim.close();
  const other = new sdk.Client({ endpoint: server.endpoint, key: "" });
  await other.login("kim@example.com", password);
  assert.equal((await other.auth.getCurrentIdentity({})).actor, "kim@example.com");
  // Its `request_id` must be empty, so it gets none.
  await other.auth.changePassword({ currentPassword: password, newPassword: "another unusual password 8" });
  other.close();
});

test("a stock client reaches a gateway", async () => {
  const { transport, headers } = client.openshell("dev-0-1");
  const { listSandboxes } = createClient(OpenShell, transport) as Record<string, (request: object) => Promise<object>>;
  assert.ok(((await listSandboxes!({})) as { sandboxes: object[] }).sandboxes.length > 0);
  assert.equal((await headers())["x-shoreguard-gateway"], "dev-0-1");
});

test("the client of browsers does the same over gRPC-Web", async () => {
  const page = new web.Client({ endpoint: server.endpoint, key: server.key });
  assert.equal((await page.gateways.listGateways({ pageSize: 1 }).all()).length, 2);
  await assert.rejects(page.gateways.getGateway({ gateway: "nope" }), (error: unknown) => {
    assert.ok(error instanceof web.NotFound && error.reason === "NOT_FOUND", String(error));
    assert.match(error.requestId ?? "", /^[0-9a-f-]{36}$/);
    return true;
  });
  assert.ok(!("execSandbox" in page.sandboxes) && !("uploadSbom" in page.sboms));
  const one = web.connect({ endpoint: proxy.endpoint, key: server.key }).service(web.EventService);
  const seen: bigint[] = [];
  for await (const event of one.watchEvents({ afterSequence: 0n })) {
    seen.push(event.sequence);
    if (seen.length === 2) proxy.drop();
    if (seen.length === 5) break;
  }
  assert.deepEqual(seen, [1n, 2n, 3n, 4n, 5n]);
});

test("a credential is shown nowhere", async () => {
  const { inspect } = await import("node:util");
  assert.ok(!inspect(client, { depth: 9, showHidden: true }).includes(server.key));
  assert.ok(!JSON.stringify(client).includes(server.key));
});

test("calls and watches survive a restart of the server", async () => {
  // A key of its own, since `dev` replaces those that it prints.
  const { key } = await client.servicePrincipals.createServicePrincipal({ name: "stays", role: sdk.Role.ADMIN });
  const lasting = new sdk.Client({ endpoint: server.endpoint, key });
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    const watch = lasting.events.watchEvents({ afterSequence: 0n });
    const seen: bigint[] = [];
    let written: Promise<unknown> | undefined;
    for await (const event of watch) {
      seen.push(event.sequence);
      written ??= (async () => {
        await server.stop(signal);
        const group = { name: `after-${signal}`, role: sdk.Role.VIEWER, requestId: randomUUID() };
        const write = persist(() => lasting.groups.createGroup(group));
        await server.run();
        await write;
      })();
      if (event.payloadJson.includes(`after-${signal}`)) break;
    }
    await written;
    assert.deepEqual(seen, seen.map((_, at) => BigInt(at + 1)), "no event is missing or repeated");
  }
  lasting.close();
});
