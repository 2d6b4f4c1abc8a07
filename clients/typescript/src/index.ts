// The client for Node.js, over gRPC.
import type { Interceptor, Transport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { AuthService } from "../gen/shoreguard/v1/auth_pb.js";
import { SERVICES } from "../gen/services.js";
import { bindService, TIMEOUT_MS } from "./core/bind.js";
import type { Credential } from "./core/credential.js";
import { authenticate, checkEndpoint, unlessAborted, unlessClosed } from "./core/credential.js";
import { ClientClosed, ConfigurationError } from "./core/errors.js";
import { retry } from "./core/retry.js";
import type { SessionTokens, SessionStore } from "./core/session.js";
import { MemoryStore, sessionCredential, sessionOf } from "./core/session.js";
import type { Services } from "./core/types.js";
import { findTarget } from "./node/target.js";

export * from "./exports.js";

/** Size of the largest message that is read, in bytes. */
const MESSAGE_BYTES_MAX = 64 << 20;

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
  readonly #connect: () => Http2SessionManager;
  readonly #manager: Http2SessionManager;
  readonly #interceptors: readonly Interceptor[];
  readonly #closed = new AbortController();
  #credential: Credential;

  constructor(options: ClientOptions = {}) {
    const { session } = options;
    const store = session === undefined || "exclusively" in session ? session : new MemoryStore(session);
    const target = findTarget({ ...options, session: store });
    this.gateway = target.gateway;
    this.#url = target.url;
    this.#credential = target.session === undefined ? async () => target.key : this.#sessionOf(target.session);
    this.#interceptors = options.interceptors ?? [];
    this.#connect = () =>
      new Http2SessionManager(
        target.url,
        { pingIntervalMs: 60_000 },
        target.ca === undefined ? {} : { ca: Buffer.from(target.ca) },
      );
    this.#manager = this.#connect();
    const transport = this.#transport(this.#manager, [
      ...this.#interceptors,
      retry,
      unlessClosed(this.#closed.signal),
      authenticate(() => this.#credential(), target.url),
      // The client can be closed while its session is refreshed.
      unlessClosed(this.#closed.signal),
    ]);
    for (const [name, service] of Object.entries(SERVICES)) {
      Object.assign(this, { [name]: bindService(service, transport, options.timeoutMs ?? TIMEOUT_MS, false) });
    }
  }

  #transport(sessionManager: Http2SessionManager, interceptors: Interceptor[]): Transport {
    return createGrpcTransport({
      baseUrl: this.#url.origin,
      sessionManager,
      interceptors,
      readMaxBytes: MESSAGE_BYTES_MAX,
    });
  }

  #sessionOf(store: SessionStore): Credential {
    return sessionCredential(store, async (refreshToken) => {
      // On a connection of its own, which `close` does not end: the next token would be lost.
      const manager = this.#connect();
      try {
        const transport = this.#transport(manager, [...this.#interceptors, retry]);
        const auth = bindService(AuthService, transport, TIMEOUT_MS, false);
        return sessionOf(await auth.refreshSession({ refreshToken }));
      } finally {
        manager.abort();
      }
    });
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
      const given = await unlessAborted(headers(), request.signal);
      for (const [name, value] of Object.entries(given)) request.header.set(name, value);
      return next(request);
    };
    const closed = unlessClosed(this.#closed.signal);
    const transport = this.#transport(this.#manager, [closed, interceptor, closed]);
    return { transport, endpoint: this.#url.origin, headers };
  }

  /**
   * Ends all calls, watches and the connection. Further calls fail with `ClientClosed`. A refresh of the session that
   * was sent is completed, since its token is good once.
   */
  close(): void {
    this.#closed.abort(new ClientClosed());
    this.#manager.abort();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
