// Checks of `@shoreguard/client/web` in a page, in the bundle that clients/typescript/bundle makes.

import { expect, expectError, failure } from "./expect.js";
import {
  Client,
  ConfigurationError,
  InvalidArgument,
  MemoryStore,
  NotFound,
  Role,
  sessionOf,
  Unavailable,
} from "./sdk.js";

/** Returns the checks of a page, by name. The server does not allow the origin of a stranger. */
export function checksOf(settings) {
  return settings.stranger ? ofAnotherOrigin(settings) : ofAConfiguredOrigin(settings);
}

function ofAConfiguredOrigin({ api, rebound, email, password, key }) {
  const client = new Client({ endpoint: api, key });
  return {
    async "the SDK makes a unary call with a key"() {
      expect((await client.auth.getCurrentIdentity({})).actor, "sp:page");
    },
    async "the SDK writes under a request id"() {
      const { group } = await client.groups.createGroup({ name: "of-a-page", role: Role.VIEWER });
      expect(group.name, "of-a-page");
    },
    async "the SDK gets reason, object and request id of an error"() {
      const error = await failure(client.gateways.getGateway({ gateway: "no-such-gateway" }));
      expectError(error, NotFound);
      expect(`${error.code} ${error.reason}`, "NOT_FOUND NOT_FOUND");
      expect(`${error.resource?.type} ${error.resource?.name}`, "gateway no-such-gateway");
      expect(/^[0-9a-f-]{36}$/.test(error.requestId), true);
    },
    async "the SDK gets the invalid field of an error"() {
      const error = await failure(client.gateways.listGateways({ pageSize: -1 }).all());
      expectError(error, InvalidArgument);
      expect(`${error.reason} ${Object.keys(error.fields)}`, "INVALID_FIELD page_size");
    },
    async "the SDK logs in and renews its session"() {
      const session = sessionOf(await new Client({ endpoint: api }).auth.login({ email, password }));
      // The next call renews it, since it seems to expire soon.
      const store = new MemoryStore({ ...session, expireTimeMs: Date.now() + 1000 });
      const person = new Client({ endpoint: api, session: store });
      expect((await person.auth.getCurrentIdentity({})).actor, email);
      expect((await store.read()).refreshToken === session.refreshToken, false);
    },
    async "the SDK watches and cancels"() {
      const watch = client.events.watchEvents({ afterSequence: 0n, names: ["group.created"] });
      const names = [];
      for await (const event of watch) {
        names.push(event.name);
        watch.cancel();
      }
      expect(names.join(), "group.created");
      expect(watch.position > 0n, true);
    },
    async "the SDK sends no key without TLS"() {
      const making = async () => new Client({ endpoint: rebound, key });
      expectError(await failure(making()), ConfigurationError);
    },
  };
}

function ofAnotherOrigin({ api, key }) {
  return {
    async "the SDK in a page of another origin gets nothing, also with a key"() {
      const client = new Client({ endpoint: api, key });
      const watching = client.events.watchEvents({ afterSequence: 0n })[Symbol.asyncIterator]();
      const calls = [client.auth.getServerInfo({}), client.auth.getCurrentIdentity({}), watching.next()];
      for (const error of await Promise.all(calls.map(failure))) {
        // The browser reports a refused preflight as a lost connection, so each call was attempted five times.
        expectError(error, Unavailable);
        expect(error.reason, undefined);
      }
    },
  };
}
