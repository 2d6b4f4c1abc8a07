// Lists: an iterable of items that reads page by page.

/** A gateway that did not answer. */
export interface Missing {
  /** Its name. */
  readonly gateway: string;
  /** Why its items are missing, as a sentence. */
  readonly error: string;
}

/** Reads one page: the response, and the request of the next one, or undefined after the last. */
export type ReadPage<Request, Response> = (
  request: Request,
) => Promise<{ readonly response: Response; readonly next: Request | undefined }>;

/**
 * A list. Iterate over it for its items, or over `pages()` for the responses. Each iteration begins with the first page.
 *
 * ```ts
 * for await (const gateway of client.gateways.listGateways({})) console.log(gateway.name);
 * ```
 */
export class Pages<Item, Response, Request = unknown> implements AsyncIterable<Item> {
  /**
   * Gateways that did not answer, of the pages that were read so far: the list is complete if this is empty at its end.
   * Otherwise a warning named `PartialResult` says so, since a loop over the items does not show it.
   */
  readonly unreachable: Missing[] = [];
  readonly #first: Request;
  readonly #read: ReadPage<Request, Response>;
  readonly #items: (response: Response) => readonly Item[];
  readonly #unreachable: (response: Response) => readonly Missing[];

  /** @internal */
  constructor(
    first: Request,
    read: ReadPage<Request, Response>,
    items: (response: Response) => readonly Item[],
    unreachable: (response: Response) => readonly Missing[],
  ) {
    this.#first = first;
    this.#read = read;
    this.#items = items;
    this.#unreachable = unreachable;
  }

  /** Yields the responses, with their tokens. */
  async *pages(): AsyncGenerator<Response, void, undefined> {
    this.unreachable.length = 0;
    let request: Request | undefined = this.#first;
    while (request !== undefined) {
      const page: { readonly response: Response; readonly next: Request | undefined } = await this.#read(request);
      for (const gateway of this.#unreachable(page.response)) {
        // Each page of a fleet list names the gateways that it misses.
        if (!this.unreachable.some((known) => known.gateway === gateway.gateway)) this.unreachable.push(gateway);
      }
      yield page.response;
      request = page.next;
    }
    if (this.unreachable.length > 0) {
      const names = this.unreachable.map((gateway) => gateway.gateway).join(", ");
      warn(`${this.unreachable.length} gateway(s) did not answer: ${names}`);
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Item, void, undefined> {
    for await (const response of this.pages()) yield* this.#items(response);
  }

  /** Reads all items into an array. */
  async all(): Promise<Item[]> {
    const items: Item[] = [];
    for await (const item of this) items.push(item);
    return items;
  }
}

/** Warns of a list that is not complete: as a warning of Node, or on the console of a browser. */
function warn(message: string): void {
  if (typeof process === "object" && typeof process.emitWarning === "function") {
    process.emitWarning(message, "PartialResult");
  } else {
    console.warn(`PartialResult: ${message}`);
  }
}
