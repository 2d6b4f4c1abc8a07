// Sends the credential, except to methods that need none.
import type { Interceptor } from "@connectrpc/connect";
import { PUBLIC } from "../../gen/methods.js";
import { ConfigurationError } from "./errors.js";
import { pathOf } from "./retry.js";

/** Returns the bearer token of the next call, or undefined for none. */
export type Credential = () => Promise<string | undefined>;

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

/** Methods without a credential that take and return no secret either. */
const WITHOUT_SECRETS: ReadonlySet<string> = new Set([
  "shoreguard.v1.AuthService/GetServerInfo",
  "shoreguard.v1.AuthService/ListOidcProviders",
]);

/**
 * Adds `authorization`. A stale credential would make a public method fail, so those get none, and secrets in them are
 * not sent without TLS. A refresh of the session is waited for as long as the call may take, and continues after it.
 */
export function authenticate(credential: Credential, url: URL): Interceptor {
  return (next) => async (request) => {
    const path = pathOf(request.method);
    if (!PUBLIC.has(path)) {
      const token = await unlessAborted(credential(), request.signal);
      if (token) request.header.set("authorization", `Bearer ${token}`);
    } else if (isPlain(url) && !WITHOUT_SECRETS.has(path)) {
      const why = `${path} has secrets, which are sent over https:// only, except to loopback`;
      throw new ConfigurationError("endpoint", why);
    }
    return next(request);
  };
}

/** Waits for a result until a signal is aborted. */
export function unlessAborted<T>(result: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    result.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
    if (signal.aborted) abort();
  });
}

/** Returns whether what is sent can be read on the network. */
function isPlain(url: URL): boolean {
  return url.protocol === "http:" && !LOOPBACK.test(url.hostname);
}

/** Makes no call after the client was closed, which would open another connection. The reason of the signal says so. */
export function unlessClosed(closed: AbortSignal): Interceptor {
  return (next) => async (request) => {
    closed.throwIfAborted();
    return next(request);
  };
}

/** Returns the URL of a server. A credential is not sent without TLS, except to loopback. */
export function checkEndpoint(endpoint: string, hasCredential: boolean): URL {
  let url: URL;
  try {
    url = new URL(endpoint.includes("://") ? endpoint : `http://${endpoint}`);
  } catch {
    throw new ConfigurationError("endpoint", `${JSON.stringify(endpoint)} is not a URL`);
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw new ConfigurationError("endpoint", `${url.protocol}// is not supported: use https://`);
  }
  if (url.username || url.password || url.search || url.hash || url.pathname !== "/") {
    throw new ConfigurationError("endpoint", "only scheme, host and port are allowed");
  }
  if (hasCredential && isPlain(url)) {
    throw new ConfigurationError("endpoint", "a credential is sent over https:// only, except to loopback");
  }
  return url;
}

/** Refuses a key that cannot be a header, without showing it. */
export function checkKey(key: string): string {
  if (!/^[\x21-\x7e]+$/.test(key)) {
    throw new ConfigurationError("key", "it contains spaces or characters that a credential cannot have");
  }
  return key;
}
