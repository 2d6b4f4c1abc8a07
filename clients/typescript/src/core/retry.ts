// Repeats calls that failed with UNAVAILABLE, and gives each write its idempotency key before the first attempt.
import type { Interceptor, StreamRequest, UnaryRequest } from "@connectrpc/connect";
import { Code, ConnectError } from "@connectrpc/connect";
import { ONCE } from "../../gen/methods.js";
import { isLost, retryAfterMs } from "./errors.js";

/** Attempts of one call, as many as gRPC's service config allows. */
export const ATTEMPTS = 5;
const FIRST_DELAY_MS = 250;
const DELAY_MAX_MS = 3_000;
/** Delays differ by up to this share, so that clients of one server do not return at once. */
const JITTER = 0.2;

/** Returns the delay after an attempt, from 0, in milliseconds. */
export function backoffMs(attempt: number): number {
  const delay = Math.min(FIRST_DELAY_MS * 2 ** attempt, DELAY_MAX_MS);
  return delay * (1 - JITTER + 2 * JITTER * Math.random());
}

/** Waits; rejects at once when the signal is aborted. */
export function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
  });
}

/** Returns the path of a method, as in `gen/methods.ts`. */
export function pathOf(method: { readonly parent: { readonly typeName: string }; readonly name: string }): string {
  return `${method.parent.typeName}/${method.name}`;
}

function hasRequestId(message: object): message is { requestId: string } {
  return "requestId" in message && typeof message.requestId === "string";
}

/** Returns whether nothing of the call can have reached the server. */
function isUnsent(error: ConnectError): boolean {
  for (let at: unknown = error.cause; at instanceof Error; at = at.cause) {
    if ("code" in at && ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN"].includes(String(at.code))) return true;
  }
  return false;
}

function isRepeatable(error: ConnectError, request: UnaryRequest | StreamRequest): boolean {
  if (request.signal.aborted) return false;
  if (ONCE.has(pathOf(request.method))) return isUnsent(error);
  return error.code === Code.Unavailable || isLost(error, false);
}

async function* only<T>(message: T): AsyncIterable<T> {
  yield message;
}

async function firstOf<T>(messages: AsyncIterable<T>): Promise<T> {
  for await (const message of messages) return message;
  throw new ConnectError("the stream has no request", Code.Internal);
}

/** Returns a function that makes the request of each attempt. A stream has one request here, which is read once. */
async function attempts(request: UnaryRequest | StreamRequest): Promise<() => UnaryRequest | StreamRequest> {
  if (!request.stream) return () => request;
  const first = await firstOf(request.message);
  return () => ({ ...request, message: only(first) });
}

/** Repeats unary calls, and streams of responses that have not begun. `grpc-timeout` becomes the remaining time. */
export const retry: Interceptor = (next) => async (request) => {
  const { methodKind } = request.method;
  if (methodKind === "client_streaming" || methodKind === "bidi_streaming") return next(request);
  // A list can have the same field as a filter.
  const isKeyed = request.method.input.field["pageToken"] === undefined && !ONCE.has(pathOf(request.method));
  if (!request.stream && isKeyed && hasRequestId(request.message)) {
    request.message.requestId ||= crypto.randomUUID();
  }
  const again = await attempts(request);
  const timeout = /^(\d+)m$/.exec(request.header.get("grpc-timeout") ?? "");
  const end = timeout === null ? undefined : Date.now() + Number(timeout[1]);
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await next(again());
    } catch (thrown) {
      const error = ConnectError.from(thrown);
      if (attempt + 1 >= ATTEMPTS || !isRepeatable(error, request)) throw thrown;
      const delay = retryAfterMs(error) ?? backoffMs(attempt);
      // The error of the server says more than the end of the time.
      if (end !== undefined && Date.now() + delay >= end) throw thrown;
      await sleep(delay, request.signal);
      if (end !== undefined) request.header.set("grpc-timeout", `${Math.max(end - Date.now(), 1)}m`);
    }
  }
};
