// The client for Node.js, over gRPC.
import type { Interceptor, Transport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { SERVICES } from "../gen/services.js";
import { bindService, TIMEOUT_MS } from "./core/bind.js";
import type { Credential } from "./core/credential.js";
import { authenticate, checkEndpoint, unlessClosed } from "./core/credential.js";
import { ClientClosed, ConfigurationError } from "./core/errors.js";
import { retry } from "./core/retry.js";
import type { SessionTokens, SessionStore } from "./core/session.js";
import { MemoryStore, sessionCredential, sessionOf } from "./core/session.js";
import type { Services } from "./core/types.js";
import { findTarget } from "./node/target.js";

export * from "./exports.js";

/** Options of a client. */
export interface ClientOptions {
  /** URL of the server. Default: `SHOREGUARD_ENDPOINT`, then the current context, then `http://127.0.0.1:8443`. */
  readonly endpoint?: string | undefined;
  /** An API key or a session token; empty for none. Default: `SHOREGUARD_KEY`, then the context. */
  readonly key?: string | undefined;
  /** A session, which is refreshed before its end. Not together with `key`. */
  readonly session?: SessionTokens | SessionStore | undefined;
  /** CA certificates of the server: a path, or PEM. Default: the context, then those of the system. */
  readonly ca?: string | Uint8Array | undefined;
  /** Name of a context of the command line, in place of the environment. */
  readonly context?: string | undefined;
  /** Deadline of unary calls with their repeats, in milliseconds. Default: 30 seconds. */
  readonly timeoutMs?: number | undefined;
  /** Interceptors of Connect, for example for traces. They see each call once, before its attempts. */
  readonly interceptors?: readonly Interceptor[] | undefined;
}

/** Access to the API of one gateway through Shoreguard, for a client of OpenShell. */
export interface OpenShell {
  /** For clients that Connect has made: `createClient(OpenShell, access.transport)`. */
  readonly transport: Transport;
  /** For other clients: the URL of the server. */
  readonly endpoint: string;
  /** For other clients: the metadata of a call, which has the credential. Ask again for each call. */
  headers(): Promise<Record<string, string>>;
}

/** A client. Has one property for each service. */
export interface Client extends Services {}

/**
 * A client of one server. Calls share a connection, which is opened by the first one and again when it is lost.
 *
 * ```ts
 * using client = new Client();
 * for await (const gateway of client.gateways.listGateways({})) console.log(gateway.name);
 * ```
 */
export class Client {
  /** Default gateway of the context; empty if it has none. */
  readonly gateway: string;
  readonly #url: URL;
  readonly #manager: Http2SessionManager;
  readonly #closed = new AbortController();
  #credential: Credential;

  constructor(options: ClientOptions = {}) {
    const { session } = options;
    const store = session === undefined || "exclusively" in session ? session : new MemoryStore(session);
    const target = findTarget({ ...options, session: store });
    this.gateway = target.gateway;
    this.#url = target.url;
    this.#credential = target.session === undefined ? async () => target.key : this.#sessionOf(target.session);
    this.#manager = new Http2SessionManager(
      target.url,
      { pingIntervalMs: 60_000 },
      target.ca === undefined ? {} : { ca: Buffer.from(target.ca) },
    );
    const transport = createGrpcTransport({
      baseUrl: target.url.origin,
      sessionManager: this.#manager,
      interceptors: [
        ...(options.interceptors ?? []),
        retry,
        unlessClosed(this.#closed.signal),
        authenticate(() => this.#credential()),
      ],
    });
    for (const [name, service] of Object.entries(SERVICES)) {
      Object.assign(this, { [name]: bindService(service, transport, options.timeoutMs ?? TIMEOUT_MS, false) });
    }
  }

  #sessionOf(store: SessionStore): Credential {
    return sessionCredential(store, async (refreshToken) =>
      sessionOf(await this.auth.refreshSession({ refreshToken })),
    );
  }

  /** Starts a session, which this client uses and refreshes from now on. It is kept in memory. */
  async login(email: string, password: string): Promise<SessionTokens> {
    checkEndpoint(this.#url.origin, true);
    const session = sessionOf(await this.auth.login({ email, password }));
    this.#credential = this.#sessionOf(new MemoryStore(session));
    return session;
  }

  /**
   * Returns access to the API of a gateway through Shoreguard, for a stock client of OpenShell. The default is the
   * gateway of the context. Calls are not repeated: which ones may be is known to that client.
   */
  openshell(gateway: string = this.gateway): OpenShell {
    if (gateway === "") throw new ConfigurationError("gateway", "it is required, since the context has no default");
    const headers = async () => {
      const token = await this.#credential();
      return {
        "x-shoreguard-gateway": gateway,
        ...(token ? { authorization: `Bearer ${token}` } : {}),
      };
    };
    const interceptor: Interceptor = (next) => async (request) => {
      for (const [name, value] of Object.entries(await headers())) request.header.set(name, value);
      return next(request);
    };
    const transport = createGrpcTransport({
      baseUrl: this.#url.origin,
      sessionManager: this.#manager,
      interceptors: [unlessClosed(this.#closed.signal), interceptor],
    });
    return { transport, endpoint: this.#url.origin, headers };
  }

  /** Ends all calls, watches and the connection. Further calls fail with `ClientClosed`. */
  close(): void {
    this.#closed.abort(new ClientClosed());
    this.#manager.abort();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
