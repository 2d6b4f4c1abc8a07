// Checks of gRPC-Web in a page, and then those of the SDK. run.py serves the page, and gets the result.

import { expect, failure } from "./expect.js";
import { call, CallError, fields, text, texts, unary } from "./grpc_web.js";

const settings = await (await fetch("/settings.json")).json();
const { api, rebound, email, password } = settings;
const EMPTY = new Uint8Array();
const WATCH = "EventService/WatchEvents";

/** Checks that the browser gets no response: it reports every refused preflight as a `TypeError`. */
async function expectNothing(promise) {
  const error = await failure(promise);
  expect(error.constructor.name, "TypeError");
}

let key;

const OF_A_CONFIGURED_ORIGIN = {
  async "a page logs in"() {
    const session = await unary(api, "AuthService/Login", texts({ 1: email, 2: password }));
    key = text(session, 1);
  },
  async "a page makes a unary call"() {
    const identity = await unary(api, "AuthService/GetCurrentIdentity", EMPTY, { key });
    expect(text(identity, 1), email);
  },
  async "a page gets the reason of an error"() {
    const request = texts({ 1: "no-such-gateway" });
    const error = await failure(unary(api, "GatewayService/GetGateway", request, { key }));
    expect(error.constructor, CallError);
    expect(`${error.code} ${error.reason}`, "5 NOT_FOUND");
  },
  async "a page needs a credential"() {
    for (const [wrong, expected] of [["", "CREDENTIAL_MISSING"], ["sg_x", "CREDENTIAL_INVALID"]]) {
      const calling = unary(api, "GatewayService/ListGateways", EMPTY, { key: wrong });
      const error = await failure(calling);
      expect(`${error.code} ${error.reason}`, `16 ${expected}`);
    }
  },
  async "a page watches and cancels"() {
    // Events that are stored already are sent at once; the account of this user is one of them.
    const cancel = new AbortController();
    let name = "";
    const watching = async () => {
      for await (const message of call(api, WATCH, EMPTY, { key, signal: cancel.signal })) {
        if (message[1]) {
          name ||= text(fields(message[1][0]), 2);
          cancel.abort();
        }
      }
    };
    const error = await failure(watching());
    expect(error.name, "AbortError");
    expect(name, "user.created");
  },
  async "a page of an allowed origin cannot call under another host"() {
    await expectNothing(unary(rebound, "AuthService/GetCurrentIdentity", EMPTY, { key }));
  },
};

const OF_ANOTHER_ORIGIN = {
  async "a page of another origin gets nothing"() {
    await expectNothing(unary(api, "AuthService/GetServerInfo", EMPTY));
  },
};

const results = [];

/** Runs checks, one after another. */
async function run(checks) {
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
      results.push({ name });
    } catch (error) {
      results.push({ name, why: `${error.name}: ${error.message}` });
    }
  }
}

await run(settings.stranger ? OF_ANOTHER_ORIGIN : OF_A_CONFIGURED_ORIGIN);
if (settings.sdk) {
  let ofSdk = {};
  await run({
    async "a page loads the SDK"() {
      ofSdk = (await import("./sdk_checks.js")).checksOf(settings);
    },
  });
  await run(ofSdk);
}
await fetch("/results", { method: "POST", body: JSON.stringify(results) });
