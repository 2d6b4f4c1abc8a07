// What both clients export.
export type { CallOptions, ItemOf } from "./core/types.js";
export * from "./core/errors.js";
export type { SessionStore, SessionTokens } from "./core/session.js";
export { MemoryStore, sessionOf } from "./core/session.js";
export type { OperationHandle, WaitOptions } from "./core/operations.js";
export type { Missing, Pages } from "./core/pages.js";
export type { Stream, Watch } from "./core/streams.js";
export * from "../gen/messages.js";
