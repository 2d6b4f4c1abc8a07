// The client of browsers, over gRPC-Web.
import type { DescService } from "@bufbuild/protobuf";
import type { Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { AuthService } from "../gen/shoreguard/v1/auth_pb.js";
import { SERVICES } from "../gen/services.js";
import { bindService, TIMEOUT_MS } from "./core/bind.js";
import type { Credential } from "./core/credential.js";
import { authenticate, checkEndpoint, checkKey } from "./core/credential.js";
import { ConfigurationError } from "./core/errors.js";
import { retry } from "./core/retry.js";
import type { SessionStore, SessionTokens } from "./core/session.js";
import { MemoryStore, sessionCredential as credentialOf, sessionOf } from "./core/session.js";
import type { WebService, WebServices } from "./core/types.js";

export type { Credential } from "./core/credential.js";
export * from "./exports.js";

/** Options of a connection. */
export interface ConnectionOptions {
  /** URL of the server. By default the origin of the page. */
  readonly endpoint?: string | undefined;
  /** An API key or a session token; empty for none. */
  readonly key?: string | undefined;
  /** Returns the token of the next call, such as `sessionCredential`. Not together with `key`. */
  readonly credential?: Credential | undefined;
  /** Deadline of unary calls with their repeats, in milliseconds. Default: 30 seconds. */
  readonly timeoutMs?: number | undefined;
  /** Interceptors of Connect, for example for traces. They see each call once, before its attempts. */
  readonly interceptors?: readonly Interceptor[] | undefined;
}

/** Options of a client. */
export interface ClientOptions extends Omit<ConnectionOptions, "credential"> {
  /** A session, which is refreshed before its end. Not together with `key`. */
  readonly session?: SessionTokens | SessionStore | undefined;
}

/** Makes single services, so that a bundle contains only those that a page uses. */
export interface Connection {
  /** Makes a service: `connection.service(GatewayService)`. */
  service<Desc extends DescService>(service: Desc): WebService<Desc>;
}

/** Opens no connection yet: the browser does it for each call. */
export function connect(options: ConnectionOptions = {}): Connection {
  const { key, credential = async () => key } = options;
  if (key !== undefined && options.credential !== undefined) {
    throw new ConfigurationError("credential", "it cannot be combined with `key`");
  }
  const hasCredential = Boolean(key) || options.credential !== undefined;
  const url = checkEndpoint(options.endpoint ?? globalThis.location?.origin ?? "", hasCredential);
  if (key) checkKey(key);
  const timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
  const transport = createGrpcWebTransport({
    baseUrl: url.origin,
    // A redirect would send the request, with its secrets, to another place.
    fetch: (input, init) => globalThis.fetch(input, { ...init, redirect: "error" }),
    interceptors: [...(options.interceptors ?? []), retry, authenticate(credential, url)],
  });
  return {
    // `true` leaves out what the type leaves out.
    service: <Desc extends DescService>(service: Desc) =>
      bindService(service, transport, timeoutMs, true) as unknown as WebService<Desc>,
  };
}

/** Makes the credential of a session, which is refreshed a minute before its end by a call to the same server. */
export function sessionCredential(
  session: SessionTokens | SessionStore,
  options: Pick<ConnectionOptions, "endpoint" | "timeoutMs"> = {},
): Credential {
  const auth = connect(options).service(AuthService);
  const store = "exclusively" in session ? session : new MemoryStore(session);
  return credentialOf(store, async (refreshToken) => sessionOf(await auth.refreshSession({ refreshToken })));
}

/** A client. Has one property for each service. */
export interface Client extends WebServices {}

/** A client for browsers. Uploads and interactive commands are missing, since gRPC-Web cannot stream requests. */
export class Client {
  constructor(options: ClientOptions = {}) {
    const { session, ...others } = options;
    const credential = session === undefined ? undefined : sessionCredential(session, others);
    const connection = connect({ ...others, credential });
    for (const [name, service] of Object.entries(SERVICES)) {
      Object.assign(this, { [name]: connection.service<DescService>(service) });
    }
  }
}
