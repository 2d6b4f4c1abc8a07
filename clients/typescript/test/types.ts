// What the types promise. This file is compiled and never run.
import type { Client, Event, Gateway, ItemOf, Operation, OperationHandle, Pages, Stream, Watch } from "../src/index.js";
import type * as sdk from "../src/index.js";
import type { Client as WebClient } from "../src/web.js";

type IsAny<T> = 0 extends 1 & T ? true : false;
type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function holds<_T extends true>(): void {}

declare const client: Client;
declare const page: WebClient;
type Services = Omit<Client, "gateway" | "login" | "openshell" | "close" | typeof Symbol.dispose>;
type Functions<S> = { [K in keyof S]: S[K] extends (...given: infer G) => infer R ? [G, R] : never }[keyof S];
type AnyOf<T> = T extends [infer G, infer R] ? (IsAny<G> extends true ? true : IsAny<R>) : never;

// No method takes or returns `any`.
holds<Equal<AnyOf<{ [S in keyof Services]: Functions<Services[S]> }[keyof Services]>, false>>();

// Shapes decide what a method returns.
const gateways = client.gateways.listGateways({});
holds<Equal<typeof gateways, Pages<Gateway, sdk.ListGatewaysResponse, sdk.ListGatewaysRequest>>>();
holds<Equal<ItemOf<sdk.ListSandboxesResponse>, sdk.Sandbox>>();
holds<Equal<ItemOf<sdk.ListApprovalsResponse>, sdk.Approval>>();
holds<Equal<ItemOf<sdk.DiffSbomsResponse>, sdk.SbomChange>>();
const created = client.sandboxes.createSandbox({ gateway: "a" });
holds<Equal<typeof created, Promise<OperationHandle>>>();
const events = client.events.watchEvents({});
holds<Equal<typeof events, Watch<Event, sdk.WatchEventsResponse>>>();
const states = client.operations.watchOperation({});
holds<Equal<typeof states, Stream<Operation>>>();
const uploaded = client.sboms.uploadSbom;
holds<Equal<ReturnType<typeof uploaded>, Promise<sdk.UploadSbomResponse>>>();

// @ts-expect-error a misspelled field
void client.gateways.getGateway({ gatewy: "a" });
// @ts-expect-error a value of another type
void client.gateways.getGateway({ gateway: 1 });
// @ts-expect-error a misspelled method
void client.gateways.getGatewy({});
// @ts-expect-error an item of a list has no such field
void gateways.all().then((all) => all[0]?.nam);
// @ts-expect-error browsers cannot stream requests
void page.sandboxes.execSandbox;
// @ts-expect-error browsers cannot stream requests
void page.sboms.uploadSbom;

// Known reasons complete, and others are allowed.
declare const error: sdk.ShoreguardError;
const known: sdk.KnownReason = "POLICY_PINNED";
if (error.reason === known || error.reason === "NEWER") void error.requestId?.length;
// @ts-expect-error not a reason
const wrong: sdk.KnownReason = "NOPE";
void wrong;
