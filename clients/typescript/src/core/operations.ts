// Operations: work that continues after the call that began it.
import type { Operation } from "../../gen/shoreguard/v1/operations_pb.js";
import { OperationStatus } from "../../gen/shoreguard/v1/operations_pb.js";
import { DeadlineExceeded, OperationFailed } from "./errors.js";

/** How to wait for an operation. */
export interface WaitOptions {
  /** Maximum time to wait, in milliseconds; unlimited if undefined. The operation continues after it. */
  readonly timeoutMs?: number | undefined;
  /** Called with each state whose percentage or message differs from that of the last known state. */
  readonly onProgress?: ((operation: Operation) => void) | undefined;
  /** Ends the wait. The operation continues: `cancel()` ends it. */
  readonly signal?: AbortSignal | undefined;
}

/** Calls about one operation. */
export interface OperationCalls {
  get(id: string): Promise<Operation>;
  watch(id: string, signal: AbortSignal): AsyncIterable<Operation>;
  cancel(id: string): Promise<Operation>;
}

/** An operation that was begun or read, in the last state that was received. */
export class OperationHandle {
  #last: Operation;
  readonly #calls: OperationCalls;

  /** @internal */
  constructor(operation: Operation, calls: OperationCalls) {
    this.#last = operation;
    this.#calls = calls;
  }

  /** Id. */
  get id(): string {
    return this.#last.id;
  }

  /** The last state that was received. */
  get operation(): Operation {
    return this.#last;
  }

  /** Whether the operation has ended. */
  get done(): boolean {
    return hasEnded(this.#last);
  }

  /** Reads the current state. */
  async refresh(): Promise<Operation> {
    this.#last = await this.#calls.get(this.id);
    return this.#last;
  }

  /**
   * Waits until the operation has ended and returns its final state. Continues when the connection is lost.
   *
   * Throws `OperationFailed` if it ended without success, and `DeadlineExceeded` after `timeoutMs`.
   */
  async wait(options: WaitOptions = {}): Promise<Operation> {
    const controller = new AbortController();
    const abort = () => controller.abort(options.signal?.reason);
    options.signal?.addEventListener("abort", abort, { once: true });
    if (options.signal?.aborted) abort();
    const late = new DeadlineExceeded({
      code: "DEADLINE_EXCEEDED",
      message: `operation ${this.id} has not ended within ${options.timeoutMs} ms; it continues`,
    });
    const timer =
      options.timeoutMs === undefined ? undefined : setTimeout(() => controller.abort(late), options.timeoutMs);
    try {
      await this.#follow(controller.signal, options.onProgress);
    } catch (error) {
      throw controller.signal.reason === late ? late : error;
    } finally {
      clearTimeout(timer);
      options.signal?.removeEventListener("abort", abort);
    }
    if (this.#last.status !== OperationStatus.SUCCEEDED) throw new OperationFailed(this.#last);
    return this.#last;
  }

  async #follow(signal: AbortSignal, onProgress: WaitOptions["onProgress"]): Promise<void> {
    for await (const operation of this.#calls.watch(this.id, signal)) {
      const { progressPercent, progressMessage } = this.#last;
      this.#last = operation;
      const isSame = progressPercent === operation.progressPercent && progressMessage === operation.progressMessage;
      if (!isSame) onProgress?.(operation);
    }
  }

  /** Requests cancellation. The operation can still succeed; `wait()` says how it ended. */
  async cancel(): Promise<Operation> {
    this.#last = await this.#calls.cancel(this.id);
    return this.#last;
  }
}

/** Returns whether an operation has ended. */
export function hasEnded(operation: Operation): boolean {
  return operation.status === OperationStatus.SUCCEEDED || operation.status === OperationStatus.FAILED;
}
