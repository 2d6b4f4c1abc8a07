// Checks requests before they are sent, so that a mistake names its field.
import type { DescField, DescMessage, Message, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { clone, create, isMessage, ScalarType, toBinary } from "@bufbuild/protobuf";
import { InvalidArgument } from "./errors.js";

function refuse(field: string, why: string, cause?: unknown): never {
  throw new InvalidArgument({
    code: "INVALID_ARGUMENT",
    message: `${field}: ${why}`,
    fields: { [field]: why },
    cause,
  });
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !isMessage(value as Message);
}

/** Returns what a single value must be, or undefined if it is. Numbers are checked by the encoder. */
function mistake(scalar: ScalarType | undefined, value: unknown): string | undefined {
  const must = (what: string) => `must be ${what}, not ${value === null ? "null" : typeof value}`;
  switch (scalar) {
    case ScalarType.STRING:
      return typeof value === "string" ? undefined : must("a string");
    case ScalarType.BOOL:
      return typeof value === "boolean" ? undefined : must("a boolean");
    case ScalarType.BYTES:
      return value instanceof Uint8Array ? undefined : must("a Uint8Array");
    default:
      return undefined;
  }
}

function checkValue(field: DescField, value: unknown, path: string): void {
  if (value === undefined) return;
  if (field.fieldKind === "list" && !Array.isArray(value)) refuse(path, `must be an array, not ${typeof value}`);
  const values = field.fieldKind === "list" ? (value as unknown[]) : [value];
  for (const [at, one] of values.entries()) {
    const place = field.fieldKind === "list" ? `${path}[${at}]` : path;
    const why = field.fieldKind === "map" ? undefined : mistake(field.scalar, one);
    if (why !== undefined) refuse(place, why);
    if (field.message !== undefined && field.fieldKind !== "map") checkFields(field.message, one, place);
  }
}

/** Refuses names that the message does not have, which the runtime would ignore, and values of another type. */
function checkFields(schema: DescMessage, init: unknown, path: string): void {
  if (!isPlain(init) || schema.typeName.startsWith("google.protobuf.")) return;
  const oneofs = new Set(schema.oneofs.map((oneof) => oneof.localName));
  for (const [name, value] of Object.entries(init)) {
    if (name.startsWith("$") || oneofs.has(name)) continue;
    const place = path === "" ? name : `${path}.${name}`;
    const field = schema.fields.find((known) => known.localName === name && known.oneof === undefined);
    if (field === undefined) refuse(place, `${schema.typeName} has no such field`);
    else checkValue(field, value, place);
  }
}

/** Makes a message of what the caller has passed. Throws `InvalidArgument` with the field. */
export function toMessage<Desc extends DescMessage>(schema: Desc, init: MessageInitShape<Desc>): MessageShape<Desc> {
  if (typeof init !== "object" || init === null) refuse("request", `must be an object, not ${String(init)}`);
  checkFields(schema, init, "");
  try {
    const message = create(schema, init);
    // A copy, since the caller can pass the same message again.
    const own = message === init ? clone(schema, message) : message;
    toBinary(schema, own);
    return own;
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    const name = /field [\w.]*\.(\w+)/.exec(text)?.[1];
    const field = schema.fields.find((known) => known.name === name)?.localName ?? name ?? "request";
    return refuse(field, text, error);
  }
}
