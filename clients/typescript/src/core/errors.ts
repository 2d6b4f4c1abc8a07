// What calls fail with: one class for each gRPC code, with the reason that programs branch on.
import { Code, ConnectError } from "@connectrpc/connect";
import type { Operation } from "../../gen/shoreguard/v1/operations_pb.js";
import { OperationErrorCode } from "../../gen/shoreguard/v1/operations_pb.js";
import type { ErrorReason } from "../../gen/shoreguard/v1/common_pb.js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  ResourceInfoSchema,
  RetryInfoSchema,
} from "../../gen/google/rpc/error_details_pb.js";

/** Name of a gRPC code, such as `NOT_FOUND`. */
export type CodeName =
  | "CANCELLED"
  | "UNKNOWN"
  | "INVALID_ARGUMENT"
  | "DEADLINE_EXCEEDED"
  | "NOT_FOUND"
  | "ALREADY_EXISTS"
  | "PERMISSION_DENIED"
  | "RESOURCE_EXHAUSTED"
  | "FAILED_PRECONDITION"
  | "ABORTED"
  | "OUT_OF_RANGE"
  | "UNIMPLEMENTED"
  | "INTERNAL"
  | "UNAVAILABLE"
  | "DATA_LOSS"
  | "UNAUTHENTICATED";

/** Name of a reason that this version knows: a value of `ErrorReason`, such as `NOT_FOUND`. */
export type KnownReason = Exclude<keyof typeof ErrorReason, "UNSPECIFIED">;

/** Reason of an error. A server that is newer than this client can send others than the known ones. */
export type Reason = KnownReason | (string & {});

/** An object that an error is about. */
export interface ErrorResource {
  /** Its type, such as `gateway`. */
  readonly type: string;
  /** Its name or id. */
  readonly name: string;
}

/** The parts of an error; all but the code and the message are optional. */
export interface ErrorParts {
  readonly code: CodeName;
  readonly message: string;
  readonly reason?: Reason | undefined;
  readonly requestId?: string | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly fields?: Readonly<Record<string, string>> | undefined;
  readonly resource?: ErrorResource | undefined;
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  readonly cause?: unknown;
}

/** A call was refused or has failed. Base class of all errors of this package. */
export class ShoreguardError extends Error {
  /** gRPC code. */
  readonly code: CodeName;
  /** The sentence of the server, without code, reason and request id. */
  readonly rawMessage: string;
  /** Why, for programs. Undefined if the error was not made by the server. */
  readonly reason: Reason | undefined;
  /** Id of the call in the server's log and audit log. */
  readonly requestId: string | undefined;
  /** How long to wait before a repeat, in milliseconds, if the server has said so. */
  readonly retryAfterMs: number | undefined;
  /** Invalid fields of the request, each with what is wrong. */
  readonly fields: Readonly<Record<string, string>>;
  /** The object that the error is about. */
  readonly resource: ErrorResource | undefined;
  /** Facts for programs; the comment of the reason in `ErrorReason` names the keys. */
  readonly metadata: Readonly<Record<string, string>>;

  constructor(parts: ErrorParts) {
    const reason = parts.reason === undefined ? "" : ` [${parts.reason}]`;
    const request = parts.requestId === undefined ? "" : ` (request ${parts.requestId})`;
    super(`${parts.code}: ${parts.message}${reason}${request}`, { cause: parts.cause });
    this.name = new.target.name;
    this.code = parts.code;
    this.rawMessage = parts.message;
    this.reason = parts.reason;
    this.requestId = parts.requestId;
    this.retryAfterMs = parts.retryAfterMs;
    this.fields = parts.fields ?? {};
    this.resource = parts.resource;
    this.metadata = parts.metadata ?? {};
  }
}

/** The call was canceled by its caller. */
export class Cancelled extends ShoreguardError {}
/** The client was closed before the call, or before a watch resumed. */
export class ClientClosed extends Cancelled {
  constructor() {
    super({ code: "CANCELLED", message: "the client is closed" });
  }
}
/** A failure without a better code. */
export class Unknown extends ShoreguardError {}
/** The request is invalid; `fields` names the fields. */
export class InvalidArgument extends ShoreguardError {}
/** The time of the call is over. */
export class DeadlineExceeded extends ShoreguardError {}
/** The object does not exist, or the caller may not see it. */
export class NotFound extends ShoreguardError {}
/** The name is in use. */
export class AlreadyExists extends ShoreguardError {}
/** The role of the caller is too low. */
export class PermissionDenied extends ShoreguardError {}
/** A limit is reached; `retryAfterMs` can say when to repeat the call. */
export class ResourceExhausted extends ShoreguardError {}
/** The state does not allow it; `reason` says why. */
export class FailedPrecondition extends ShoreguardError {}
/** The object has changed since it was read: read it again. */
export class Aborted extends ShoreguardError {}
/** A position does not exist any more. */
export class OutOfRange extends ShoreguardError {}
/** The server does not have the method. */
export class Unimplemented extends ShoreguardError {}
/** A fault of the server: its log has the cause under `requestId`. */
export class Internal extends ShoreguardError {}
/** The server cannot be reached or is stopping. The call was repeated in vain. */
export class Unavailable extends ShoreguardError {}
/** Data was lost. */
export class DataLoss extends ShoreguardError {}
/** The credential is missing or invalid. */
export class Unauthenticated extends ShoreguardError {}

/** A watch cannot resume without loss: events after its position were deleted by retention. */
export class CursorExpired extends OutOfRange {
  /** Sequence of the oldest stored event. To continue with a gap, watch after `oldest - 1n`. */
  readonly oldest: bigint;

  constructor(parts: ErrorParts) {
    super(parts);
    this.oldest = BigInt(parts.metadata?.["oldest"] ?? /\d+/.exec(parts.message)?.[0] ?? 0);
  }
}

/** An operation has ended without success. `reason` is its error code, such as `TIMEOUT`. */
export class OperationFailed extends ShoreguardError {
  /** The operation in its final state, with the results of the steps that were done. */
  readonly operation: Operation;

  constructor(operation: Operation) {
    const reason = OperationErrorCode[operation.errorCode] ?? String(operation.errorCode);
    super({
      code: "UNKNOWN",
      message: `operation ${operation.id} failed: ${operation.errorMessage}`,
      reason,
    });
    this.operation = operation;
  }
}

/** Options that contradict each other, or an environment that cannot be used. No call was made. */
export class ConfigurationError extends ShoreguardError {
  constructor(field: string, why: string) {
    super({ code: "INVALID_ARGUMENT", message: `${field}: ${why}`, fields: { [field]: why } });
  }
}

type ErrorClass = new (parts: ErrorParts) => ShoreguardError;

const CLASSES: Readonly<Record<Code, readonly [CodeName, ErrorClass]>> = {
  [Code.Canceled]: ["CANCELLED", Cancelled],
  [Code.Unknown]: ["UNKNOWN", Unknown],
  [Code.InvalidArgument]: ["INVALID_ARGUMENT", InvalidArgument],
  [Code.DeadlineExceeded]: ["DEADLINE_EXCEEDED", DeadlineExceeded],
  [Code.NotFound]: ["NOT_FOUND", NotFound],
  [Code.AlreadyExists]: ["ALREADY_EXISTS", AlreadyExists],
  [Code.PermissionDenied]: ["PERMISSION_DENIED", PermissionDenied],
  [Code.ResourceExhausted]: ["RESOURCE_EXHAUSTED", ResourceExhausted],
  [Code.FailedPrecondition]: ["FAILED_PRECONDITION", FailedPrecondition],
  [Code.Aborted]: ["ABORTED", Aborted],
  [Code.OutOfRange]: ["OUT_OF_RANGE", OutOfRange],
  [Code.Unimplemented]: ["UNIMPLEMENTED", Unimplemented],
  [Code.Internal]: ["INTERNAL", Internal],
  [Code.Unavailable]: ["UNAVAILABLE", Unavailable],
  [Code.DataLoss]: ["DATA_LOSS", DataLoss],
  [Code.Unauthenticated]: ["UNAUTHENTICATED", Unauthenticated],
};

/** Returns whether the connection was lost: the transport made the error, and neither the server nor the caller. */
export function isLost(error: ConnectError, canceledByCaller: boolean): boolean {
  if (error.metadata.has("grpc-status")) return false;
  switch (error.code) {
    // Without a connection, or reset during the call.
    case Code.Unavailable:
    case Code.Aborted:
      return true;
    case Code.Canceled:
      return !canceledByCaller;
    // `fetch` says no more than this of a connection that failed.
    case Code.Unknown:
      return error.cause instanceof TypeError;
    // The stream ended before its status, or Node's http2 has failed.
    case Code.Internal:
      return error.rawMessage === "missing trailer" || error.cause instanceof Error;
    default:
      return false;
  }
}

/** Returns the delay of RetryInfo in milliseconds. */
export function retryAfterMs(error: ConnectError): number | undefined {
  const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return delay === undefined ? undefined : Number(delay.seconds) * 1000 + Math.ceil(delay.nanos / 1e6);
}

/** Converts an error of the transport to one of ours. */
export function translate(thrown: unknown, canceledByCaller: boolean): ShoreguardError {
  if (thrown instanceof ShoreguardError) return thrown;
  const error = ConnectError.from(thrown);
  // An interceptor of ours has thrown it, such as for a session that has ended. Connect wraps what it does not know.
  if (error.cause instanceof ShoreguardError) return error.cause;
  const info = error.findDetails(ErrorInfoSchema).find((detail) => detail.domain === "shoreguard");
  const violations = error.findDetails(BadRequestSchema).flatMap((detail) => detail.fieldViolations);
  const fields: Record<string, string> = {};
  for (const { field, description } of violations) {
    fields[field] = field in fields ? `${fields[field]}; ${description}` : description;
  }
  const resource = error.findDetails(ResourceInfoSchema)[0];
  const code = isLost(error, canceledByCaller) ? Code.Unavailable : error.code;
  const [name, byCode] = CLASSES[code];
  const parts: ErrorParts = {
    code: name,
    message: error.rawMessage,
    reason: info?.reason || undefined,
    requestId: error.metadata.get("x-request-id") ?? undefined,
    retryAfterMs: retryAfterMs(error),
    fields,
    resource: resource && { type: resource.resourceType, name: resource.resourceName },
    metadata: info?.metadata,
    cause: error.cause,
  };
  return parts.reason === "CURSOR_EXPIRED" ? new CursorExpired(parts) : new byCode(parts);
}
