// gRPC-Web with nothing but `fetch`, and as much of protobuf as the checks need.

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Encodes a message from its text fields: `{1: "a", 2: "b"}`. */
export function texts(fields) {
  const bytes = [];
  for (const [number, text] of Object.entries(fields)) {
    const value = encoder.encode(text);
    if (value.length > 127) throw new Error("the encoder writes lengths of one byte only");
    bytes.push((Number(number) << 3) | 2, value.length, ...value);
  }
  return Uint8Array.from(bytes);
}

/** Decodes a message: an array of values for each field number, numbers as BigInt, everything else as bytes. */
export function fields(bytes) {
  const found = {};
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  const take = (length) => bytes.subarray(at, (at += length));
  while (at < bytes.length) {
    const tag = Number(varint());
    const kind = tag & 7;
    const value = kind === 0 ? varint() : take(kind === 2 ? Number(varint()) : kind === 1 ? 8 : 4);
    (found[tag >> 3] ??= []).push(value);
  }
  return found;
}

/** Returns the first value of a text field, or an empty text. */
export const text = (message, number) => decoder.decode(message[number]?.[0] ?? new Uint8Array());

/** A call that has failed. */
export class CallError extends Error {
  constructor(status) {
    super(`code ${status["grpc-status"]}: ${decodeURIComponent(status["grpc-message"] ?? "")}`);
    this.code = Number(status["grpc-status"]);
    this.reason = reason(status["grpc-status-details-bin"]);
  }
}

/** Returns the reason of the `google.rpc.ErrorInfo` in the details of a status. */
function reason(details) {
  if (!details) return "";
  const bytes = Uint8Array.from(atob(details), (c) => c.charCodeAt(0));
  const all = (fields(bytes)[3] ?? []).map(fields);
  const info = all.find((any) => text(any, 1).endsWith("/google.rpc.ErrorInfo"));
  return info ? text(fields(info[2][0]), 1) : "";
}

/** Makes a call and yields the messages of its response. Throws `CallError` if its status is not OK. */
export async function* call(endpoint, method, message, { key, signal } = {}) {
  const frame = new Uint8Array(5 + message.length);
  new DataView(frame.buffer).setUint32(1, message.length);
  frame.set(message, 5);
  const headers = { "content-type": "application/grpc-web+proto", "x-grpc-web": "1" };
  if (key) headers.authorization = `Bearer ${key}`;
  const path = `${endpoint}/shoreguard.v1.${method}`;
  const response = await fetch(path, { method: "POST", headers, body: frame, signal });
  if (response.status !== 200) throw new Error(`HTTP status ${response.status}`);
  let status = Object.fromEntries(response.headers);
  let rest = new Uint8Array();
  for await (const part of response.body) {
    const joined = new Uint8Array(rest.length + part.length);
    joined.set(rest);
    joined.set(part, rest.length);
    rest = joined;
    while (rest.length >= 5) {
      const end = 5 + new DataView(rest.buffer, rest.byteOffset).getUint32(1);
      if (rest.length < end) break;
      const content = rest.subarray(5, end);
      if (rest[0] === 0) yield fields(content);
      else status = trailers(content);
      rest = rest.subarray(end);
    }
  }
  if (status["grpc-status"] === undefined) throw new Error("the response has no status");
  if (status["grpc-status"] !== "0") throw new CallError(status);
}

function trailers(bytes) {
  const lines = decoder.decode(bytes).split("\r\n").filter(Boolean);
  return Object.fromEntries(lines.map((line) => {
    const at = line.indexOf(":");
    return [line.slice(0, at).toLowerCase(), line.slice(at + 1).trim()];
  }));
}

/** Makes a unary call. Returns its response. */
export async function unary(...given) {
  const messages = [];
  for await (const message of call(...given)) messages.push(message);
  if (messages.length !== 1) throw new Error(`${messages.length} messages in a unary response`);
  return messages[0];
}
