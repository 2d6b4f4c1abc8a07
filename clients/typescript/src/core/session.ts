// Sessions of users: the session token is replaced a minute before it ends.
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { timestampMs } from "@bufbuild/protobuf/wkt";

/** How long before its end a session token is replaced, in milliseconds. */
const MARGIN_MS = 60_000;

/** The tokens of a session. */
export interface SessionTokens {
  /** Sent as `authorization: Bearer`. */
  readonly sessionToken: string;
  /** End of the session token, in milliseconds since 1970. */
  readonly expireTimeMs: number;
  /** Exchanged for the next session token. Good once: its reuse ends the session. */
  readonly refreshToken: string;
}

/**
 * Where a session is stored. Programs that share a session must share the lock too, since a refresh token is good once.
 */
export interface SessionStore {
  /** Runs `work` while no other program, and no other call of this one, refreshes the session. */
  exclusively<T>(work: () => Promise<T>): Promise<T>;
  /** Reads the session. */
  read(): Promise<SessionTokens | undefined>;
  /** Replaces the session. Returns after it is stored. */
  write(session: SessionTokens): Promise<void>;
}

/** Converts the answer of Login, RefreshSession, AcceptInvite and others. */
export function sessionOf(response: {
  readonly sessionToken: string;
  readonly expireTime?: Timestamp | undefined;
  readonly refreshToken: string;
}): SessionTokens {
  const { sessionToken, expireTime, refreshToken } = response;
  return { sessionToken, refreshToken, expireTimeMs: expireTime === undefined ? 0 : timestampMs(expireTime) };
}

/** A session in memory: for one program. */
export class MemoryStore implements SessionStore {
  #session: SessionTokens | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(session?: SessionTokens) {
    this.#session = session;
  }

  exclusively<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work, work);
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  async read(): Promise<SessionTokens | undefined> {
    return this.#session;
  }

  async write(session: SessionTokens): Promise<void> {
    this.#session = session;
  }
}

/** Returns whether a session token can be sent for a while, or cannot be replaced. */
function isFresh(session: SessionTokens): boolean {
  return session.refreshToken === "" || session.expireTimeMs - Date.now() > MARGIN_MS;
}

/** Makes the credential of a stored session. `refresh` calls RefreshSession. */
export function sessionCredential(
  store: SessionStore,
  refresh: (refreshToken: string) => Promise<SessionTokens>,
): () => Promise<string | undefined> {
  let running: Promise<string | undefined> | undefined;
  // A session that could not be stored, and the stored refresh token that it replaces, which is no longer valid.
  let unsaved: { readonly replaces: string; readonly next: SessionTokens } | undefined;
  const read = async (): Promise<SessionTokens | undefined> => {
    const stored = await store.read();
    return stored !== undefined && stored.refreshToken === unsaved?.replaces ? unsaved.next : stored;
  };
  const renew = () =>
    store.exclusively(async () => {
      // Another program can have refreshed it in the meantime.
      const session = await read();
      if (session === undefined || isFresh(session)) return session?.sessionToken;
      const next = await refresh(session.refreshToken);
      unsaved = { replaces: unsaved?.next === session ? unsaved.replaces : session.refreshToken, next };
      await store.write(next);
      unsaved = undefined;
      return next.sessionToken;
    });
  return async () => {
    const session = await read();
    if (session === undefined || isFresh(session)) return session?.sessionToken;
    running ??= renew().finally(() => (running = undefined));
    return running;
  };
}
