// Makes the services of a client: each method of a descriptor becomes a function over a transport.
import type {
  DescMessage,
  DescMethod,
  DescMethodBiDiStreaming,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  Message,
  MessageInitShape,
} from "@bufbuild/protobuf";
import { isFieldSet } from "@bufbuild/protobuf";
import type { Transport } from "@connectrpc/connect";
import { WatchEventsResponseSchema } from "../../gen/shoreguard/v1/events_pb.js";
import type { Operation } from "../../gen/shoreguard/v1/operations_pb.js";
import { OperationSchema, OperationService, WaitOperationRequestSchema } from "../../gen/shoreguard/v1/operations_pb.js";
import type { UnreachableGateway } from "../../gen/shoreguard/v1/sandboxes_pb.js";
import { toMessage } from "./check.js";
import { translate } from "./errors.js";
import { hasEnded, OperationHandle } from "./operations.js";
import type { Missing } from "./pages.js";
import { Pages } from "./pages.js";
import type { Cursor } from "./streams.js";
import { resume, Stream, Watch } from "./streams.js";
import type { Beside, CallOptions, Service } from "./types.js";

/** Deadline of unary calls, in milliseconds. */
export const TIMEOUT_MS = 30_000;
/** How long the server waits in WaitOperation if the request does not say it, in milliseconds. */
const WAIT_MS = 25_000;
/** What the answer of WaitOperation may take in addition, in milliseconds. */
const WAIT_MARGIN_MS = 10_000;

/** A message whose fields are read by name: the descriptor has said that they exist. */
type Fields = Message & Record<string, unknown>;
type Unary = DescMethodUnary<DescMessage, DescMessage>;
type ServerStreaming = DescMethodServerStreaming<DescMessage, DescMessage>;
type ClientStreaming = DescMethodClientStreaming<DescMessage, DescMessage>;
type BiDiStreaming = DescMethodBiDiStreaming<DescMessage, DescMessage>;
type Requests = AsyncIterable<MessageInitShape<DescMessage>>;

/** The calls of a client. */
class Caller {
  constructor(
    private readonly transport: Transport,
    private readonly timeoutMs: number,
  ) {}

  async unary(method: Unary, request: Message, options: CallOptions): Promise<Fields> {
    const timeoutMs = options.timeoutMs ?? waitMs(request as Fields) ?? this.timeoutMs;
    try {
      const response = await this.transport.unary(method, options.signal, timeoutMs, options.headers, request);
      return response.message as Fields;
    } catch (error) {
      throw translate(error, options.signal?.aborted ?? false);
    }
  }

  async stream(
    method: ServerStreaming | BiDiStreaming,
    requests: Requests,
    options: CallOptions,
  ): Promise<AsyncIterable<Fields>> {
    const { signal } = options;
    const wrong = (error: unknown) => translate(error, signal?.aborted ?? false);
    try {
      const { message } = await this.transport.stream(method, signal, options.timeoutMs, options.headers, requests);
      return translated(message as AsyncIterable<Fields>, wrong);
    } catch (error) {
      throw wrong(error);
    }
  }

  async upload(
    method: ClientStreaming,
    requests: Requests,
    options: CallOptions,
  ): Promise<Fields> {
    try {
      const response = await this.transport.stream(
        method,
        options.signal,
        options.timeoutMs,
        options.headers,
        requests,
      );
      for await (const message of response.message) return message as Fields;
      throw new Error("the server has sent no response");
    } catch (error) {
      throw translate(error, options.signal?.aborted ?? false);
    }
  }
}

/** Returns the deadline of a call that waits, in milliseconds. */
function waitMs(request: Fields): number | undefined {
  if (request.$typeName !== WaitOperationRequestSchema.typeName) return undefined;
  const timeout = request["timeout"] as { seconds: bigint } | undefined;
  return (timeout === undefined ? WAIT_MS : Number(timeout.seconds) * 1000) + WAIT_MARGIN_MS;
}

async function* once<T>(message: T): AsyncGenerator<T, void, undefined> {
  yield message;
}

async function* translated<T>(
  messages: AsyncIterable<T>,
  wrong: (error: unknown) => Error,
): AsyncGenerator<T, void, undefined> {
  try {
    for await (const message of messages) yield message;
  } catch (error) {
    throw wrong(error);
  }
}

async function* checked(schema: DescMessage, requests: Requests): AsyncGenerator<Message, void, undefined> {
  for await (const request of requests) yield toMessage(schema, request);
}

function has(schema: DescMessage, name: string): boolean {
  return schema.field[name] !== undefined;
}

const BESIDE: readonly string[] = ["unreachable", "waitingDrafts"] satisfies readonly Beside[];

/** Returns the names of the lists in a response with pages: there must be one, that of its items. */
export function listsOf(schema: DescMessage): string[] {
  const lists = schema.fields.filter((field) => field.fieldKind === "list" && !BESIDE.includes(field.localName));
  return lists.map((field) => field.localName);
}

/** Returns whether a response is an operation and nothing else. */
function isOperation(schema: DescMessage): boolean {
  const field = schema.field["operation"];
  return field?.fieldKind === "message" && field.message.typeName === OperationSchema.typeName;
}

/** Returns the gateways that a response says it misses. */
function missing(response: Fields, init: Fields): readonly Missing[] {
  if (response["gatewayUnreachable"] === true) {
    return [{ gateway: String(init["gateway"]), error: String(response["gatewayError"]) }];
  }
  return (response["unreachable"] as UnreachableGateway[] | undefined) ?? [];
}

function list(caller: Caller, method: Unary, init: Fields, options: CallOptions): Pages<unknown, Fields, Fields> {
  const { input, output } = method;
  const items = listsOf(output)[0] ?? "";
  const bySequence = has(output, "nextAfterSequence");
  const read = async (request: Fields) => {
    const response = await caller.unary(method, toMessage(input, request), options);
    const more = bySequence ? response["more"] === true : response["nextPageToken"] !== "";
    const next = bySequence
      ? { ...request, afterSequence: response["nextAfterSequence"] }
      : { ...request, pageToken: response["nextPageToken"] };
    return { response, next: more ? (next as Fields) : undefined };
  };
  return new Pages<unknown, Fields, Fields>(
    init,
    read,
    (response) => response[items] as unknown[],
    (response) => missing(response, init),
  );
}

/** Returns the watch of a method whose request has a position, under that name. */
function watch(
  caller: Caller,
  method: ServerStreaming,
  position: "afterSequence" | "cursor",
  request: Fields,
  options: CallOptions,
): Watch<unknown, Fields> {
  const cursor: Cursor = { position: request[position] as bigint };
  const from = position === "cursor" ? "cursor" : "sequence";
  async function* begin(signal: AbortSignal): AsyncGenerator<Fields, void, undefined> {
    const open = (to: AbortSignal) =>
      caller.stream(method, once({ ...request, [position]: cursor.position } as Fields), { ...options, signal: to });
    // `From now on` has no position until the first message: to resume there would skip events silently.
    const mayResume = () => cursor.position >= 0n;
    for await (const message of resume(open, signal, mayResume, () => false)) {
      cursor.position = message[from] as bigint;
      yield message;
    }
  }
  const isEvent = method.output.typeName === WatchEventsResponseSchema.typeName;
  const others = method.output.fields.filter((field) => field.localName !== from);
  const itemOf = (message: Fields) => {
    if (isEvent) return message["event"];
    return others.some((field) => isFieldSet(message, field)) ? message : undefined;
  };
  return new Watch<unknown, Fields>(new Stream(begin, options.signal), itemOf, cursor);
}

/** The functions that one method becomes, by its shape. */
class Binding {
  constructor(private readonly caller: Caller) {}

  bind(method: DescMethod): unknown {
    switch (method.methodKind) {
      case "unary":
        return (init: Fields, options: CallOptions = {}) => this.unary(method as Unary, init, options);
      case "server_streaming":
        return (init: Fields, options: CallOptions = {}) =>
          this.responses(method as ServerStreaming, init, options);
      case "client_streaming":
        return (requests: Requests, options: CallOptions = {}) =>
          this.caller.upload(method as ClientStreaming, checked(method.input, requests), options);
      case "bidi_streaming":
        return (requests: Requests, options: CallOptions = {}) =>
          this.open(method as BiDiStreaming, checked(method.input, requests), options);
    }
  }

  private open(
    method: ServerStreaming | BiDiStreaming,
    requests: AsyncIterable<Message>,
    options: CallOptions,
  ): Stream<unknown> {
    const { caller } = this;
    async function* begin(signal: AbortSignal): AsyncGenerator<unknown, void, undefined> {
      yield* await caller.stream(method, requests, { ...options, signal });
    }
    return new Stream<unknown>(begin, options.signal);
  }

  private unary(method: Unary, init: Fields, options: CallOptions): unknown {
    if (has(method.output, "nextPageToken") || has(method.output, "nextAfterSequence")) {
      toMessage(method.input, init);
      return list(this.caller, method, init, options);
    }
    return this.single(method, init, options);
  }

  private async single(method: Unary, init: Fields, options: CallOptions): Promise<unknown> {
    const response = await this.caller.unary(method, toMessage(method.input, init), options);
    return isOperation(method.output) ? this.handle(response["operation"] as Operation) : response;
  }

  private responses(method: ServerStreaming, init: Fields, options: CallOptions): unknown {
    const request = toMessage(method.input, init) as Fields;
    if (has(method.input, "afterSequence")) return watch(this.caller, method, "afterSequence", request, options);
    if (has(method.input, "cursor")) return watch(this.caller, method, "cursor", request, options);
    if (isOperation(method.output)) {
      const id = request["operation"] as string;
      return new Stream<Operation>((signal) => this.follow(id, signal, options), options.signal);
    }
    return this.open(method, once(request), options);
  }

  private async *follow(
    id: string,
    signal: AbortSignal,
    options: CallOptions,
  ): AsyncGenerator<Operation, void, undefined> {
    const method = OperationService.method.watchOperation;
    const request = toMessage(method.input, { operation: id });
    const open = (to: AbortSignal) => this.caller.stream(method, once(request), { ...options, signal: to });
    const isLast = (message: Fields) => hasEnded(message["operation"] as Operation);
    for await (const message of resume(open, signal, () => true, isLast)) yield message["operation"] as Operation;
  }

  private handle(operation: Operation): OperationHandle {
    const call = async (method: Unary, id: string) => {
      const response = await this.caller.unary(method, toMessage(method.input, { operation: id } as unknown as Fields), {});
      return response["operation"] as Operation;
    };
    const { getOperation, cancelOperation } = OperationService.method;
    return new OperationHandle(operation, {
      get: (id) => call(getOperation, id),
      watch: (id, signal) => this.follow(id, signal, {}),
      cancel: (id) => call(cancelOperation, id),
    });
  }
}

/** Makes the functions of a service over a transport. `isWeb` leaves out the methods that browsers do not have. */
export function bindService<Desc extends DescService>(
  service: Desc,
  transport: Transport,
  timeoutMs: number,
  isWeb: boolean,
): Service<Desc> {
  const binding = new Binding(new Caller(transport, timeoutMs));
  const methods: Record<string, unknown> = {};
  for (const method of service.methods) {
    const isUpload = method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming";
    if (!(isWeb && isUpload)) methods[method.localName] = binding.bind(method);
  }
  // The type is computed of the same descriptor, by the same rules.
  return Object.freeze(methods) as unknown as Service<Desc>;
}
