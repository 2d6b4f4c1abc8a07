// Where the server is, and with which credential it is called.
import { readFileSync } from "node:fs";
import { checkEndpoint, checkKey } from "../core/credential.js";
import { ConfigurationError } from "../core/errors.js";
import type { SessionStore } from "../core/session.js";
import { type Context, Contexts } from "./contexts.js";

/** Where a client looks if neither an argument nor the environment nor a context says it. */
export const DEFAULT_ENDPOINT = "http://127.0.0.1:8443";

/** What a caller has given. */
export interface Given {
  readonly endpoint?: string | undefined;
  readonly key?: string | undefined;
  readonly ca?: string | Uint8Array | undefined;
  readonly context?: string | undefined;
  readonly session?: SessionStore | undefined;
}

/** A server, and how to reach it. */
export interface Target {
  readonly url: URL;
  /** CA certificates, PEM. Undefined for those of the system. */
  readonly ca: string | Uint8Array | undefined;
  readonly key: string | undefined;
  readonly session: SessionStore | undefined;
  /** Default gateway of the context; can be empty. */
  readonly gateway: string;
}

function readCa(ca: string | Uint8Array): string | Uint8Array {
  if (typeof ca !== "string" || ca.includes("-----BEGIN")) return ca;
  try {
    return readFileSync(ca);
  } catch (error) {
    throw new ConfigurationError("ca", `it cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function isSame(one: string, other: string): boolean {
  return one.replace(/\/$/, "") === other.replace(/\/$/, "");
}

/** Returns the current context if it is for this endpoint. Files that are not valid do not matter then. */
function currentOf(contexts: Contexts, endpoint: string): Context | undefined {
  try {
    const context = contexts.get();
    return context !== undefined && isSame(context.endpoint, endpoint) ? context : undefined;
  } catch {
    return undefined;
  }
}

/** Finds the server: by the arguments, else the environment, else the current context, else the default. */
export function findTarget(given: Given): Target {
  if (given.key !== undefined && given.session !== undefined) {
    throw new ConfigurationError("session", "it cannot be combined with `key`");
  }
  const contexts = new Contexts();
  const named = given.context !== undefined;
  const asked = given.endpoint ?? (named ? undefined : process.env["SHOREGUARD_ENDPOINT"] || undefined);
  const context = named || asked === undefined ? contexts.get(given.context) : currentOf(contexts, asked);
  const endpoint = asked ?? context?.endpoint ?? DEFAULT_ENDPOINT;
  let { key, session } = given;
  if (key === undefined && session === undefined) {
    key = named ? undefined : process.env["SHOREGUARD_KEY"] || undefined;
    // The credential of a context is sent to the endpoint of this context only.
    if (key === undefined && context !== undefined && isSame(context.endpoint, endpoint)) {
      const stored = contexts.credential(context.name, context.endpoint);
      if (typeof stored === "string") key = stored;
      else session = stored;
    }
  }
  if (key) checkKey(key);
  const url = checkEndpoint(endpoint, Boolean(key) || session !== undefined);
  const ca = given.ca ?? (context?.ca || undefined);
  if (ca !== undefined && url.protocol !== "https:") {
    throw new ConfigurationError("ca", "it needs an endpoint with https://");
  }
  return { url, ca: ca === undefined ? undefined : readCa(ca), key, session, gateway: context?.gateway ?? "" };
}
