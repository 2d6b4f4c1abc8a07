// Sends the credential, except to methods that need none.
import type { Interceptor } from "@connectrpc/connect";
import { PUBLIC } from "../../gen/methods.js";
import { ConfigurationError } from "./errors.js";
import { pathOf } from "./retry.js";

/** Returns the bearer token of the next call, or undefined for none. */
export type Credential = () => Promise<string | undefined>;

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

/** Adds `authorization`. A stale credential would make a public method fail, so those get none. */
export function authenticate(credential: Credential): Interceptor {
  return (next) => async (request) => {
    if (!PUBLIC.has(pathOf(request.method))) {
      const token = await credential();
      if (token) request.header.set("authorization", `Bearer ${token}`);
    }
    return next(request);
  };
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
  if (url.protocol === "http:" && hasCredential && !LOOPBACK.test(url.hostname)) {
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
