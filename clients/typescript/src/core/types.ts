// The types of the services: what each method takes and returns, made of the generated descriptors.
import type {
  DescMessage,
  DescMethodBiDiStreaming,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import type { SERVICES } from "../../gen/services.js";
import type { Event, WatchEventsResponse } from "../../gen/shoreguard/v1/events_pb.js";
import type { Operation } from "../../gen/shoreguard/v1/operations_pb.js";
import type { OperationHandle } from "./operations.js";
import type { Pages } from "./pages.js";
import type { Stream, Watch } from "./streams.js";

/** Options of one call. */
export interface CallOptions {
  /** Cancels the call. */
  readonly signal?: AbortSignal | undefined;
  /** Deadline in milliseconds. By default that of the client for unary calls, and none for streams. */
  readonly timeoutMs?: number | undefined;
  /** Additional metadata. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

/** Lists that a response with pages has beside its items. */
export type Beside = "unreachable" | "waitingDrafts";

/** Name of the list of items in a response with pages. */
export type ItemsKey<Response> = Exclude<
  { [K in keyof Response]-?: Response[K] extends readonly unknown[] ? K : never }[keyof Response],
  Beside
>;

/** Type of the items of a response with pages. */
export type ItemOf<Response> = Response[ItemsKey<Response>] extends readonly (infer Item)[] ? Item : never;

/** What a unary method returns: a list, an operation or a response. */
export type UnaryResult<I, O> = O extends { nextPageToken: string } | { nextAfterSequence: bigint }
  ? Pages<ItemOf<O>, O, I>
  : "operation" extends keyof O
    ? O["operation"] extends Operation | undefined
      ? Promise<OperationHandle>
      : Promise<O>
    : Promise<O>;

/** What a method with a stream of responses returns. A stream with a position in its request resumes by itself. */
export type StreamResult<I, O> = O extends WatchEventsResponse
  ? Watch<Event, O>
  : I extends { afterSequence: bigint } | { cursor: bigint }
    ? Watch<O, O>
    : O extends { operation?: infer State }
      ? Stream<NonNullable<State>>
      : Stream<O>;

/** The methods of a service that exist everywhere: those whose request is one message. */
export type WebService<Desc extends DescService> = {
  [P in keyof Desc["method"] as Desc["method"][P] extends
    | DescMethodClientStreaming<DescMessage, DescMessage>
    | DescMethodBiDiStreaming<DescMessage, DescMessage>
    ? never
    : P]: Desc["method"][P] extends DescMethodUnary<infer I, infer O>
    ? (request: MessageInitShape<I>, options?: CallOptions) => UnaryResult<MessageShape<I>, MessageShape<O>>
    : Desc["method"][P] extends DescMethodServerStreaming<infer I, infer O>
      ? (request: MessageInitShape<I>, options?: CallOptions) => StreamResult<MessageShape<I>, MessageShape<O>>
      : never;
};

/** All methods of a service. */
export type Service<Desc extends DescService> = {
  [P in keyof Desc["method"]]: Desc["method"][P] extends DescMethodUnary<infer I, infer O>
    ? (request: MessageInitShape<I>, options?: CallOptions) => UnaryResult<MessageShape<I>, MessageShape<O>>
    : Desc["method"][P] extends DescMethodServerStreaming<infer I, infer O>
      ? (request: MessageInitShape<I>, options?: CallOptions) => StreamResult<MessageShape<I>, MessageShape<O>>
      : Desc["method"][P] extends DescMethodClientStreaming<infer I, infer O>
        ? (requests: AsyncIterable<MessageInitShape<I>>, options?: CallOptions) => Promise<MessageShape<O>>
        : Desc["method"][P] extends DescMethodBiDiStreaming<infer I, infer O>
          ? (requests: AsyncIterable<MessageInitShape<I>>, options?: CallOptions) => Stream<MessageShape<O>>
          : never;
};

/** All services, by the name of their file. */
export type Services = { readonly [K in keyof typeof SERVICES]: Service<(typeof SERVICES)[K]> };

/** All services, with the methods that exist in a browser. */
export type WebServices = { readonly [K in keyof typeof SERVICES]: WebService<(typeof SERVICES)[K]> };
