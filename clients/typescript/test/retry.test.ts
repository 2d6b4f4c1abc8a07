// Only UNAVAILABLE is repeated, and a write only under one idempotency key.
import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { Code } from "@connectrpc/connect";
import * as sdk from "../src/index.js";
import { type Fault, fault, Scripted } from "./scripted.js";

/** What the server answers, in order; then it succeeds. */
let faults: Fault[] = [];
/** How many streams are refused first. */
let refusals = 0;
let seen: { at: number; requestId: string; timeout: string | null; authorization: string | null }[] = [];

function answer(requestId: string, headers: Headers): Record<string, never> {
  const timeout = headers.get("grpc-timeout");
  seen.push({ at: performance.now(), requestId, timeout, authorization: headers.get("authorization") });
  const next = faults.shift();
  if (next !== undefined) throw fault(next);
  return {};
}

const server = await Scripted.start((router) => {
  router.service(sdk.GroupService, {
    createGroup: (request, context) => answer(request.requestId, context.requestHeader),
    getGroup: (_, context) => answer("", context.requestHeader),
  });
  router.service(sdk.AuthService, {
    refreshSession: (_, context) => answer("", context.requestHeader),
    getServerInfo: (_, context) => answer("", context.requestHeader),
  });
  router.service(sdk.AuditService, {
    listAuditEntries: (request, context) => answer(request.requestId, context.requestHeader),
  });
  router.service(sdk.SbomService, {
    async *downloadSbom(_, context) {
      answer("", context.requestHeader);
      yield { chunk: new Uint8Array([1]) };
    },
  });
}, (headers) => (headers[":path"]?.endsWith("DownloadSbom") && refusals-- > 0 ? Code.Unavailable : undefined));
const client = new sdk.Client({ endpoint: server.endpoint, key: "sg_test" });
beforeEach(() => {
  faults = [];
  seen = [];
});
after(() => {
  client.close();
  server.close();
});

const away: Fault = { code: Code.Unavailable, reason: "DRAINING" };

test("a read is repeated, at most five times", async () => {
  faults = [away, away];
  await client.groups.getGroup({ group: "a" });
  assert.equal(seen.length, 3);
  const first = seen[1]!.at - seen[0]!.at;
  assert.ok(first >= 195, `the first pause took ${first} ms`);
  seen = [];
  faults = Array<Fault>(9).fill({ ...away, retryAfterMs: 1 });
  await assert.rejects(client.groups.getGroup({ group: "a" }), sdk.Unavailable);
  assert.equal(seen.length, 5);
});

test("the delay that the server asks for is kept", async () => {
  faults = [{ ...away, retryAfterMs: 600 }];
  await client.groups.getGroup({ group: "a" });
  assert.ok(seen[1]!.at - seen[0]!.at >= 595);
});

test("a write is repeated under one key, and each write has its own", async () => {
  faults = [{ ...away, retryAfterMs: 1 }];
  const request = { name: "a" };
  await client.groups.createGroup(request);
  await client.groups.createGroup(request);
  await client.groups.createGroup({ name: "a", requestId: "given" });
  const [first, again, second, given] = seen.map((call) => call.requestId);
  assert.match(first!, /^[0-9a-f-]{36}$/);
  assert.equal(first, again);
  assert.notEqual(first, second);
  assert.equal(given, "given");
  assert.deepEqual(request, { name: "a" });
});

test("a filter by request id stays empty", async () => {
  await client.audit.listAuditEntries({}).all();
  assert.equal(seen[0]!.requestId, "");
});

test("a write without a key is not repeated", async () => {
  faults = [away];
  await assert.rejects(client.auth.refreshSession({ refreshToken: "a" }), sdk.Unavailable);
  assert.equal(seen.length, 1);
});

test("other codes are not repeated", async () => {
  for (const code of [Code.ResourceExhausted, Code.Aborted, Code.Internal, Code.DeadlineExceeded]) {
    faults = [{ code, retryAfterMs: 1 }];
    seen = [];
    await assert.rejects(client.groups.getGroup({ group: "a" }), sdk.ShoreguardError);
    assert.equal(seen.length, 1);
  }
});

test("the deadline is that of all attempts", async () => {
  faults = [{ ...away, retryAfterMs: 300 }];
  await client.groups.getGroup({ group: "a" }, { timeoutMs: 20_000 });
  const [first, second] = seen.map((call) => Number.parseInt(call.timeout ?? "", 10));
  assert.equal(first, 20_000);
  assert.ok(second! <= 19_700 && second! > 0, `${second} ms remain`);
  faults = [{ ...away, retryAfterMs: 60_000 }];
  await assert.rejects(client.groups.getGroup({ group: "a" }, { timeoutMs: 20_000 }), sdk.Unavailable);
});

test("calls have 30 seconds, and streams have no deadline", async () => {
  await client.groups.getGroup({ group: "a" });
  assert.equal(seen[0]!.timeout, "30000m");
  refusals = 2;
  for await (const { chunk } of client.sboms.downloadSbom({})) assert.equal(chunk.length, 1);
  assert.equal(refusals, -1, "a stream that has not begun is repeated");
  assert.equal(seen[1]!.timeout, null);
});

test("a public method gets no credential", async () => {
  await client.groups.getGroup({ group: "a" });
  await client.auth.getServerInfo({});
  assert.deepEqual(seen.map((call) => call.authorization), ["Bearer sg_test", null]);
});
