// Where the client finds the server and its credential.
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, test } from "node:test";
import * as sdk from "../src/index.js";
import { sessionCredential } from "../src/core/session.js";
import { checkProtection, Contexts } from "../src/node/contexts.js";
import { findTarget } from "../src/node/target.js";
import { parse, stringify } from "../src/node/toml.js";

const DEV = "http://127.0.0.1:1";
const home = mkdtempSync(join(tmpdir(), "shoreguard-contexts-"));
const folder = join(home, "shoreguard");
const credentials = join(folder, "credentials.toml");
mkdirSync(folder);
process.env["XDG_CONFIG_HOME"] = home;
after(() => rmSync(home, { recursive: true }));

beforeEach(() => {
  delete process.env["SHOREGUARD_ENDPOINT"];
  delete process.env["SHOREGUARD_KEY"];
  rmSync(join(folder, "contexts.toml"), { force: true });
  writeFileSync(
    join(folder, "contexts.toml"),
    [
      'current = "prod" # the default',
      "[contexts.prod]",
      'endpoint = "https://shoreguard.example.com"',
      "gateway = 'prod-eu'",
      '[contexts."my dev"]',
      '"endpoint" = "http://127.0.0.1:1"',
    ].join("\n"),
  );
  writeFileSync(
    credentials,
    [
      '[contexts."prod"]',
      'key = "sg_prod"',
      '["contexts"."my dev"]',
      'session_token = "a"',
      "expire_time = 2026-11-30T22:00:00+00:00",
      'refresh_token = "b"',
    ].join("\n"),
    { mode: 0o600 },
  );
  chmodSync(credentials, 0o600);
});

test("arguments precede the environment, and that precedes the context", () => {
  const context = findTarget({});
  assert.equal(context.url.origin, "https://shoreguard.example.com");
  assert.equal(context.key, "sg_prod");
  assert.equal(context.gateway, "prod-eu");
  process.env["SHOREGUARD_KEY"] = "sg_environment";
  assert.equal(findTarget({}).key, "sg_environment");
  process.env["SHOREGUARD_ENDPOINT"] = "http://127.0.0.1:2";
  assert.equal(findTarget({}).url.origin, "http://127.0.0.1:2");
  assert.equal(findTarget({ endpoint: "https://a.example.com", key: "sg_given" }).key, "sg_given");
  const named = findTarget({ context: "my dev" });
  assert.equal(named.url.origin, "http://127.0.0.1:1");
  assert.equal(named.key, undefined);
  assert.ok(named.session);
});

test("the credential of a context is sent to its endpoint only", () => {
  assert.equal(findTarget({ endpoint: "https://other.example.com" }).key, undefined);
  assert.equal(findTarget({ endpoint: "https://other.example.com", context: "prod" }).key, undefined);
  // An endpoint that is given can be that of the current context.
  const given = findTarget({ endpoint: "https://shoreguard.example.com/" });
  assert.deepEqual([given.key, given.gateway], ["sg_prod", "prod-eu"]);
  assert.equal(findTarget({ endpoint: DEV }).session, undefined);
  process.env["SHOREGUARD_ENDPOINT"] = "https://shoreguard.example.com";
  assert.equal(findTarget({}).key, "sg_prod");
  writeFileSync(join(folder, "contexts.toml"), "current = [");
  assert.equal(findTarget({}).key, undefined);
});

test("without a context, the server of `dev` is used", () => {
  rmSync(join(folder, "contexts.toml"));
  assert.equal(findTarget({}).url.origin, "http://127.0.0.1:8443");
});

test("what cannot be used is refused with its place", () => {
  const refused: [() => unknown, RegExp][] = [
    [() => findTarget({ endpoint: "http://example.com", key: "sg_a" }), /endpoint: a credential is sent over https/],
    [() => findTarget({ endpoint: "ftp://example.com" }), /endpoint: ftp/],
    [() => findTarget({ endpoint: "https://a:b@example.com" }), /endpoint: only scheme, host and port/],
    [() => findTarget({ endpoint: "" }), /endpoint: "" is not a URL/],
    [() => findTarget({ endpoint: "https://a.example.com", key: "a b" }), /key: it contains spaces/],
    [() => findTarget({ endpoint: "https://a.example.com", ca: "/nowhere.pem" }), /ca: it cannot be read: ENOENT/],
    [() => findTarget({ endpoint: "http://127.0.0.1:1", ca: "x" }), /ca: it needs an endpoint with https/],
    [() => findTarget({ context: "nope" }), /context: `nope` does not exist/],
    [() => new sdk.Client({ key: "a", session: new sdk.MemoryStore() }), /session: it cannot be combined/],
  ];
  for (const [make, message] of refused) {
    assert.throws(make, (error: unknown) => {
      assert.ok(error instanceof sdk.ConfigurationError, String(error));
      assert.match(error.message, message);
      assert.ok(!error.message.includes("a b"), "a key is not shown");
      return true;
    });
  }
  chmodSync(credentials, 0o644);
  assert.throws(() => findTarget({}), /other users can read it/);
  chmodSync(credentials, 0o600);
  // Another server or another CA could be in it.
  for (const mode of [0o620, 0o602]) {
    chmodSync(join(folder, "contexts.toml"), mode);
    assert.throws(() => findTarget({}), /other users can write it/);
  }
  const user = process.geteuid?.() ?? 0;
  checkProtection("file", { uid: user, mode: 0o644 });
  checkProtection("file", { uid: 0, mode: 0o644 });
  assert.throws(() => checkProtection("file", { uid: user + 1, mode: 0o600 }), /belongs to another user/);
});

test("a plain endpoint is good without a credential, and on loopback", () => {
  assert.equal(findTarget({ endpoint: "http://example.com" }).url.protocol, "http:");
  for (const host of ["localhost", "127.0.0.2", "[::1]"]) findTarget({ endpoint: `http://${host}:1`, key: "sg_a" });
});

test("a session is replaced as a whole, and the rest is kept", async () => {
  const contexts = new Contexts();
  const next = { sessionToken: "c", refreshToken: 'd"\\', expireTimeMs: Date.parse("2026-12-01T00:00:00Z") };
  let inside = 0;
  await Promise.all(
    [1, 2, 3].map(() =>
      contexts.locked(async () => {
        inside += 1;
        assert.equal(inside, 1, "the lock is held by one");
        contexts.store("my dev", DEV, next);
        await new Promise((resolve) => setTimeout(resolve, 20));
        inside -= 1;
      }),
    ),
  );
  assert.deepEqual(contexts.session("my dev", DEV), next);
  assert.equal(contexts.credential("prod", "https://shoreguard.example.com"), "sg_prod");
  assert.equal(statSync(credentials).mode & 0o777, 0o600);
});

test("a session is for one endpoint, even if its context gets another one", async () => {
  const due = { sessionToken: "c", refreshToken: "d", expireTimeMs: 0 };
  const used: string[] = [];
  const refresh = async (token: string) => {
    used.push(token);
    return due;
  };
  const contextsFile = join(folder, "contexts.toml");
  const elsewhere = () => readFileSync(contextsFile, "utf8").replace(DEV, "http://127.0.0.1:9");
  // An entry of old has no endpoint: it is for that of its context.
  const old = findTarget({ context: "my dev" }).session;
  assert.ok(old);
  const token = sessionCredential(old, refresh);
  assert.equal(await token(), "c");
  assert.deepEqual(used, ["b"]);
  assert.match(readFileSync(credentials, "utf8"), /"endpoint" = "http:\/\/127\.0\.0\.1:1"/);
  // The context has another server now, whose login has replaced the session.
  writeFileSync(contextsFile, elsewhere());
  assert.equal(findTarget({ context: "my dev" }).session, undefined, "it was stored for the other server");
  new Contexts().store("my dev", "http://127.0.0.1:9", { ...due, refreshToken: "e" });
  assert.equal(await token(), undefined);
  assert.deepEqual(used, ["b"]);
  assert.ok(findTarget({ context: "my dev" }).session);
  writeFileSync(credentials, readFileSync(credentials, "utf8").replace(/"endpoint" = .*\n/, ""));
  assert.equal(await token(), undefined);
});

test("TOML is read and written as far as it is used", () => {
  const text = 'a = "x\\u00e9\\U0001F600\\e" # c\n[b."c d"]\ne = 1_0\nf = true\ng = 2026-11-30 22:00:00Z\n';
  const table = parse(text, "file");
  assert.equal(table["a"], "xé😀\u001b");
  assert.deepEqual(JSON.parse(JSON.stringify(table["b"])), { "c d": { e: 10, f: true, g: "2026-11-30T22:00:00Z" } });
  assert.deepEqual(parse(stringify(table), "again"), table);
  assert.ok(stringify(table).includes('"g" = 2026-11-30T22:00:00Z'), "a time is no text");
  for (const wrong of ["a", "a = ", "a = secret", 'a = "secret', "[a", 'a = "x" y', "= 1", "a = [1]", "a = 1\n[a]"]) {
    assert.throws(() => parse(wrong, "file"), (error: unknown) => {
      assert.match(String(error), /file: line \d is not understood/);
      assert.ok(!String(error).includes("secret"));
      return true;
    });
  }
  assert.ok(readFileSync(credentials, "utf8").includes("[contexts"));
});
