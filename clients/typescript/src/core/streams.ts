// Streams of responses: what ends early is canceled, and watches resume where the connection was lost.
import { ClientClosed, type CodeName, ShoreguardError, translate, Unauthenticated, Unavailable } from "./errors.js";
import { ATTEMPTS, backoffMs, sleep } from "./retry.js";

/** Opens a stream. The promise is resolved when the server has accepted the call. */
export type Open<T> = (signal: AbortSignal) => Promise<AsyncIterable<T>>;

/** Responses of one call. Leaving the loop, or `cancel()`, ends the call on the server. */
export class Stream<T> implements AsyncIterable<T> {
  readonly #controller = new AbortController();
  readonly #begin: (signal: AbortSignal) => AsyncIterable<T>;
  #canceled = false;

  /** @internal */
  constructor(begin: (signal: AbortSignal) => AsyncIterable<T>, signal: AbortSignal | undefined) {
    this.#begin = begin;
    if (signal?.aborted) this.#controller.abort(signal.reason);
    signal?.addEventListener("abort", () => this.#controller.abort(signal.reason), {
      once: true,
      signal: this.#controller.signal,
    });
  }

  /** Ends the call. The loop over the stream ends without an error. */
  cancel(): void {
    this.#canceled = true;
    this.#controller.abort();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    try {
      yield* this.#begin(this.#controller.signal);
    } catch (error) {
      if (!this.#canceled) throw translate(error, true);
    } finally {
      this.#controller.abort();
    }
  }
}

/**
 * A stream that resumes where the connection was lost, without loss. Iterate over it for its items, or over `messages()`
 * for the messages, also those that only move the position.
 */
export class Watch<Item, Message> extends Stream<Item> {
  readonly #cursor: Cursor;
  readonly #messages: Stream<Message>;

  /** @internal */
  constructor(messages: Stream<Message>, itemOf: (message: Message) => Item | undefined, cursor: Cursor) {
    super(async function* () {
      for await (const message of messages) {
        const item = itemOf(message);
        if (item !== undefined) yield item;
      }
    }, undefined);
    this.#messages = messages;
    this.#cursor = cursor;
  }

  /** Everything up to here was received: a new watch that begins here continues this one. */
  get position(): bigint {
    return this.#cursor.position;
  }

  /** Yields the messages of the server. */
  messages(): AsyncIterable<Message> {
    return this.#messages;
  }

  override cancel(): void {
    this.#messages.cancel();
    super.cancel();
  }
}

/** Position of a watch. */
export interface Cursor {
  position: bigint;
}

/** Returns whether a stream broke off although the server did not end it. */
function isBroken(error: unknown): error is ShoreguardError {
  if (error instanceof Unavailable) return true;
  if (error instanceof ClientClosed) return false;
  return error instanceof ShoreguardError && error.reason === undefined && BROKEN.has(error.code);
}

const BROKEN: ReadonlySet<CodeName> = new Set<CodeName>(["CANCELLED", "INTERNAL", "UNKNOWN"]);

/**
 * Yields messages of a stream and opens it again whenever it is lost, or the session token has expired since it was
 * accepted. The first opening fails as every call does; after it, the watch resumes until it is canceled, fails with
 * another error, or `isLast` is true of a message.
 */
export async function* resume<T>(
  open: Open<T>,
  signal: AbortSignal,
  mayResume: () => boolean,
  isLast: (message: T) => boolean,
): AsyncGenerator<T, void, undefined> {
  let failures = 0;
  for (let opened = false; ; ) {
    let lost: ShoreguardError | undefined;
    let accepted = false;
    try {
      const messages = await open(signal);
      opened = accepted = true;
      for await (const message of messages) {
        failures = 0;
        yield message;
        if (isLast(message)) return;
      }
    } catch (error) {
      const expired = accepted && error instanceof Unauthenticated && failures < ATTEMPTS;
      if (signal.aborted || !(expired || isBroken(error)) || !opened || !mayResume()) throw error;
      lost = error as ShoreguardError;
    }
    await sleep(lost?.retryAfterMs ?? backoffMs(failures), signal);
    failures += 1;
  }
}
