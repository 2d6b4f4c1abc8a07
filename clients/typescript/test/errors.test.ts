// Each error of the server arrives with its class, its reason and its details.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Code } from "@connectrpc/connect";
import * as sdk from "../src/index.js";
import { type Fault, fault, Scripted } from "./scripted.js";

let next: Fault = { code: Code.Internal };
let calls = 0;
const server = await Scripted.start((router) =>
  router.service(sdk.GatewayService, {
    getGateway() {
      calls += 1;
      throw fault(next);
    },
  }),
);
const client = new sdk.Client({ endpoint: server.endpoint, key: "sg_test" });
after(() => {
  client.close();
  server.close();
});

async function failure(of: Fault): Promise<sdk.ShoreguardError> {
  next = of;
  calls = 0;
  const error: unknown = await client.gateways.getGateway({ gateway: "a" }).catch((thrown: unknown) => thrown);
  assert.ok(error instanceof sdk.ShoreguardError, String(error));
  return error;
}

test("every reason is known by name", async () => {
  const names = Object.keys(sdk.ErrorReason).filter((name) => Number.isNaN(Number(name)) && name !== "UNSPECIFIED");
  assert.ok(names.length > 60);
  for (const reason of names) {
    const error = await failure({ code: Code.FailedPrecondition, reason });
    assert.equal(error.reason, reason);
    assert.equal(error instanceof sdk.CursorExpired, reason === "CURSOR_EXPIRED");
    assert.equal(error.message, `FAILED_PRECONDITION: a sentence [${reason}] (request 0190-id)`);
  }
});

test("a reason of a newer server is a text", async () => {
  const error = await failure({ code: Code.Aborted, reason: "NEW_REASON", metadata: { approval: "7" } });
  assert.equal(error.reason, "NEW_REASON");
  assert.deepEqual(error.metadata, { approval: "7" });
});

test("each code has its class", async () => {
  const classes: [Code, sdk.CodeName, unknown][] = [
    [Code.Unknown, "UNKNOWN", sdk.Unknown],
    [Code.InvalidArgument, "INVALID_ARGUMENT", sdk.InvalidArgument],
    [Code.DeadlineExceeded, "DEADLINE_EXCEEDED", sdk.DeadlineExceeded],
    [Code.NotFound, "NOT_FOUND", sdk.NotFound],
    [Code.AlreadyExists, "ALREADY_EXISTS", sdk.AlreadyExists],
    [Code.PermissionDenied, "PERMISSION_DENIED", sdk.PermissionDenied],
    [Code.ResourceExhausted, "RESOURCE_EXHAUSTED", sdk.ResourceExhausted],
    [Code.FailedPrecondition, "FAILED_PRECONDITION", sdk.FailedPrecondition],
    [Code.Aborted, "ABORTED", sdk.Aborted],
    [Code.OutOfRange, "OUT_OF_RANGE", sdk.OutOfRange],
    [Code.Unimplemented, "UNIMPLEMENTED", sdk.Unimplemented],
    [Code.Internal, "INTERNAL", sdk.Internal],
    [Code.DataLoss, "DATA_LOSS", sdk.DataLoss],
    [Code.Unauthenticated, "UNAUTHENTICATED", sdk.Unauthenticated],
  ];
  for (const [code, name, kind] of classes) {
    const error = await failure({ code });
    assert.equal(error.constructor, kind);
    assert.equal(error.code, name);
    assert.equal(calls, 1, `${name} is not repeated`);
  }
});

test("details are read", async () => {
  const error = await failure({
    code: Code.InvalidArgument,
    reason: "INVALID_FIELD",
    fields: { page_size: "must be positive" },
    resource: { type: "gateway", name: "a" },
    retryAfterMs: 1500,
  });
  assert.deepEqual(error.fields, { page_size: "must be positive" });
  assert.deepEqual(error.resource, { type: "gateway", name: "a" });
  assert.equal(error.retryAfterMs, 1500);
  assert.equal(error.requestId, "0190-id");
  assert.equal(error.rawMessage, "a sentence");
});

test("a mistake names its field and makes no call", async () => {
  calls = 0;
  for (const [request, field] of [
    [{ gatewy: "a" }, "gatewy"],
    [{ gateway: 7 }, "gateway"],
    [null, "request"],
  ] as const) {
    await assert.rejects(client.gateways.getGateway(request as never), (error: unknown) => {
      assert.ok(error instanceof sdk.InvalidArgument, String(error));
      assert.deepEqual(Object.keys(error.fields), [field]);
      return true;
    });
  }
  assert.equal(calls, 0);
});

test("a canceled call and a deadline are named as such", async () => {
  await assert.rejects(
    client.gateways.getGateway({ gateway: "a" }, { signal: AbortSignal.abort() }),
    (error: unknown) => error instanceof sdk.Cancelled && error.code === "CANCELLED",
  );
});
