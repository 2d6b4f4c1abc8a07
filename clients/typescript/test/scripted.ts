// A server whose answers the test determines, for faults that the real one shows rarely.
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { once } from "node:events";
import { createServer, type Http2Server, type IncomingHttpHeaders } from "node:http2";
import type { AddressInfo } from "node:net";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  ResourceInfoSchema,
  RetryInfoSchema,
} from "../gen/google/rpc/error_details_pb.js";

/** Parts of an error of the server. */
export interface Fault {
  readonly code: Code;
  readonly reason?: string;
  readonly metadata?: Record<string, string>;
  readonly retryAfterMs?: number;
  readonly fields?: Record<string, string>;
  readonly resource?: { readonly type: string; readonly name: string };
}

/** Makes an error as the server does. */
export function fault({ code, reason, metadata, retryAfterMs, fields, resource }: Fault): ConnectError {
  const error = new ConnectError("a sentence", code, { "x-request-id": "0190-id" });
  if (reason !== undefined) {
    const value = { reason, domain: "shoreguard", metadata: metadata ?? {} };
    error.details.push({ desc: ErrorInfoSchema, value: create(ErrorInfoSchema, value) });
  }
  if (retryAfterMs !== undefined) {
    const delay = { seconds: BigInt(Math.floor(retryAfterMs / 1000)), nanos: (retryAfterMs % 1000) * 1e6 };
    error.details.push({ desc: RetryInfoSchema, value: create(RetryInfoSchema, { retryDelay: delay }) });
  }
  if (fields !== undefined) {
    const fieldViolations = Object.entries(fields).map(([field, description]) => ({ field, description }));
    error.details.push({ desc: BadRequestSchema, value: create(BadRequestSchema, { fieldViolations }) });
  }
  if (resource !== undefined) {
    const value = { resourceType: resource.type, resourceName: resource.name };
    error.details.push({ desc: ResourceInfoSchema, value: create(ResourceInfoSchema, value) });
  }
  return error;
}

/** A gRPC server without TLS. */
export class Scripted {
  private constructor(readonly server: Http2Server) {}

  /** `refuse` is asked before each call: a code that it returns is sent in place of headers. */
  static async start(
    routes: (router: ConnectRouter) => void,
    refuse: (headers: IncomingHttpHeaders) => Code | undefined = () => undefined,
  ): Promise<Scripted> {
    const adapter = connectNodeAdapter({ routes });
    const server = createServer((request, response) => {
      const code = refuse(request.headers);
      if (code === undefined) return void adapter(request, response);
      response.writeHead(200, { "content-type": "application/grpc", "grpc-status": `${code}` });
      response.end();
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new Scripted(server);
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.server.close();
  }
}
