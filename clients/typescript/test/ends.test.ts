// How calls, watches and sessions end: with their client, with their token, and with a folder that cannot be written.
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, test } from "node:test";
import { Code } from "@connectrpc/connect";
import * as sdk from "../src/index.js";
import { sessionCredential } from "../src/core/session.js";
import { Contexts } from "../src/node/contexts.js";
import { connect } from "../src/web.js";
import { fault, Scripted } from "./scripted.js";

/** Positions from which events were watched. */
let asked: bigint[] = [];
/** How many watches the server accepts before it refuses them. */
let accepted = 0;
/** Ends each watch after its first event, as for a token that expires; otherwise they stay open. */
let expires = true;
let refreshes = 0;
/** Answers refreshes, which are refused without it. */
let renew: (() => Promise<{ sessionToken: string; refreshToken: string }>) | undefined;

const server = await Scripted.start((router) => {
  router.service(sdk.EventService, {
    async *watchEvents(request, context) {
      asked.push(request.afterSequence);
      const sequence = 7n + BigInt(asked.length - 1);
      yield { sequence, event: { sequence, name: "group.created" } };
      if (expires) throw fault({ code: Code.Unauthenticated, reason: "CREDENTIAL_INVALID" });
      await new Promise((resolve) => context.signal.addEventListener("abort", resolve));
    },
  });
  router.service(sdk.AuthService, {
    refreshSession: async () => {
      refreshes += 1;
      if (renew !== undefined) return renew();
      throw fault({ code: Code.Unauthenticated, reason: "CREDENTIAL_INVALID" });
    },
  });
  router.service(sdk.GroupService, { getGroup: () => ({}) });
}, (headers) => (headers[":path"]?.endsWith("WatchEvents") && accepted-- <= 0 ? Code.Unauthenticated : undefined));
beforeEach(() => {
  asked = [];
  [accepted, expires, refreshes, renew] = [2, true, 0, undefined];
});
after(() => server.close());

test("a watch continues when the token of its session expires, and ends when it is refused at once", async () => {
  const client = new sdk.Client({ endpoint: server.endpoint, key: "sg_x" });
  const seen: bigint[] = [];
  await assert.rejects(async () => {
    for await (const event of client.events.watchEvents({ afterSequence: 0n })) seen.push(event.sequence);
  }, sdk.Unauthenticated);
  assert.deepEqual(seen, [7n, 8n]);
  assert.deepEqual(asked, [0n, 7n]);
  client.close();
});

test("a watch and calls end with their client", async () => {
  expires = false;
  const client = new sdk.Client({ endpoint: server.endpoint, key: "sg_x" });
  await assert.rejects(async () => {
    for await (const _ of client.events.watchEvents({ afterSequence: 0n })) client.close();
  }, sdk.ClientClosed);
  assert.deepEqual(asked, [0n]);
  await assert.rejects(client.groups.getGroup({ group: "a" }), sdk.Cancelled);
});

test("a session that has ended is named as such", async () => {
  const session = { sessionToken: "a", refreshToken: "b", expireTimeMs: 0 };
  const client = new sdk.Client({ endpoint: server.endpoint, session });
  await assert.rejects(client.groups.getGroup({ group: "a" }), sdk.Unauthenticated);
  assert.equal(refreshes, 1);
  client.close();
});

/** Returns a promise, and what resolves it. */
function event(): { readonly occurred: Promise<void>; readonly occur: () => void } {
  let occur = (): void => undefined;
  const occurred = new Promise<void>((resolve) => (occur = resolve));
  return { occurred, occur: () => occur() };
}

test("a refresh is completed although its call or its client has ended", async () => {
  const begun = event();
  const released = event();
  renew = async () => {
    begun.occur();
    await released.occurred;
    return { sessionToken: "c", refreshToken: "d" };
  };
  const store = new sdk.MemoryStore({ sessionToken: "a", refreshToken: "b", expireTimeMs: 0 });
  const client = new sdk.Client({ endpoint: server.endpoint, session: store });
  await assert.rejects(client.groups.getGroup({ group: "a" }, { timeoutMs: 50 }), sdk.DeadlineExceeded);
  const call = client.groups.getGroup({ group: "a" }).catch((error: unknown) => error);
  await begun.occurred;
  client.close();
  released.occur();
  assert.ok((await call) instanceof sdk.ClientClosed);
  assert.equal((await store.read())?.refreshToken, "d");
  assert.equal(refreshes, 1);
});

test("a secret is not sent without TLS", async () => {
  const client = new sdk.Client({ endpoint: "http://shoreguard.invalid", key: "" });
  await assert.rejects(client.login("ana@example.com", "secret"), /sent over https/);
  await assert.rejects(client.auth.login({ email: "ana@example.com", password: "secret" }), /sent over https/);
  await assert.rejects(client.auth.acceptInvite({ inviteToken: "secret", password: "secret" }), /sent over https/);
  await assert.rejects(client.auth.refreshSession({ refreshToken: "secret" }), /sent over https/);
  client.close();
});

test("a redirect is not followed", async () => {
  let received = 0;
  const other = createServer((_request, response) => {
    received += 1;
    response.end();
  });
  other.listen(0, "127.0.0.1");
  await once(other, "listening");
  const location = `http://127.0.0.1:${(other.address() as AddressInfo).port}/`;
  const first = createServer((_request, response) => response.writeHead(307, { location }).end());
  first.listen(0, "127.0.0.1");
  await once(first, "listening");
  const endpoint = `http://127.0.0.1:${(first.address() as AddressInfo).port}`;
  const auth = connect({ endpoint }).service(sdk.AuthService);
  await assert.rejects(auth.login({ email: "ana@example.com", password: "secret" }), sdk.ShoreguardError);
  assert.equal(received, 0);
  first.close();
  other.close();
});

test("a session without a refresh token is used as it is", async () => {
  const session = { sessionToken: "a", refreshToken: "", expireTimeMs: Date.now() + 1_000 };
  const client = new sdk.Client({ endpoint: server.endpoint, session });
  await client.groups.getGroup({ group: "a" });
  assert.equal(refreshes, 0);
  client.close();
});

test("a refresh token is kept if its successor cannot be stored", async () => {
  const folder = mkdtempSync(join(tmpdir(), "shoreguard-ends-"));
  try {
    const text = '[contexts.dev]\nsession_token = "a"\nexpire_time = 2020-01-01T00:00:00Z\nrefresh_token = "b"\n';
    writeFileSync(join(folder, "credentials.toml"), `${text}endpoint = "http://127.0.0.1:1"\n`, { mode: 0o600 });
    const contexts = new Contexts(folder);
    contexts.requireWritable();
    const store = contexts.credential("dev", "http://127.0.0.1:1") as sdk.SessionStore;
    contexts.requireWritable = () => {
      throw new sdk.ConfigurationError("credentials.toml", "it cannot be written");
    };
    const refresh = async () => assert.fail("the refresh token was used");
    await assert.rejects(sessionCredential(store, refresh)(), sdk.ConfigurationError);
    const file = new Contexts(join(folder, "credentials.toml"));
    assert.throws(() => file.requireWritable(), sdk.ConfigurationError);
    await assert.rejects(file.locked(async () => undefined), sdk.ConfigurationError);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a refresh token is used once, also if its successor cannot be stored", async () => {
  const memory = new sdk.MemoryStore({ sessionToken: "a", refreshToken: "b", expireTimeMs: 0 });
  let isFull = true;
  const store: sdk.SessionStore = {
    exclusively: (work) => memory.exclusively(work),
    read: () => memory.read(),
    write: async (session) => {
      if (isFull) throw new sdk.ConfigurationError("credentials.toml", "it cannot be written");
      await memory.write(session);
    },
  };
  const used: string[] = [];
  const token = sessionCredential(store, async (refreshToken) => {
    used.push(refreshToken);
    return { sessionToken: `s${used.length}`, refreshToken: `r${used.length}`, expireTimeMs: 0 };
  });
  await assert.rejects(token(), sdk.ConfigurationError);
  await assert.rejects(token(), sdk.ConfigurationError);
  isFull = false;
  assert.equal(await token(), "s3");
  assert.deepEqual(used, ["b", "r1", "r2"]);
  assert.equal((await memory.read())?.refreshToken, "r3");
});

test("files below a file are missing, as those of a user without a home folder", () => {
  const folder = mkdtempSync(join(tmpdir(), "shoreguard-ends-"));
  try {
    mkdirSync(join(folder, "home"));
    writeFileSync(join(folder, "home", "file"), "");
    assert.equal(new Contexts(join(folder, "home", "file", "shoreguard")).get(), undefined);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
