// Contexts, as the command line stores them: `contexts.toml` has endpoints, `credentials.toml` keys and sessions.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  closeSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { devNull, homedir } from "node:os";
import { dirname, join } from "node:path";
import { once } from "node:events";
import { ConfigurationError } from "../core/errors.js";
import type { SessionTokens, SessionStore } from "../core/session.js";
import type { Table, Value } from "./toml.js";
import { parse, stringify } from "./toml.js";

/** A named server. */
export interface Context {
  readonly name: string;
  readonly endpoint: string;
  /** Path of the CA certificates of the server; empty for those of the system. */
  readonly ca: string;
  /** Name of the gateway that is used if none is given; can be empty. */
  readonly gateway: string;
}

/** How long to wait for the lock of the credentials, in seconds. Another program makes one call at most. */
const LOCK_SECONDS = 60;

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR");
}

function configFolder(): string {
  const base = process.env["XDG_CONFIG_HOME"];
  if (base) return base;
  try {
    return join(homedir(), ".config");
  } catch {
    // The user has no home folder, as in some containers: nothing is stored, and this folder has no files.
    return devNull;
  }
}

/** What the mode of a file must not allow to other users. */
interface Protection {
  readonly forbidden: number;
  readonly what: string;
}

/** Of credentials. */
const SECRET: Protection = { forbidden: 0o077, what: "read" };
/** Of contexts, which say where credentials are sent. */
const TRUSTED: Protection = { forbidden: 0o022, what: "write" };

/** Refuses a file of another user, except root, or one that others can use in a forbidden way. */
export function checkProtection(
  path: string,
  about: { readonly uid: number; readonly mode: number },
  { forbidden, what }: Protection = TRUSTED,
): void {
  const user = process.geteuid?.();
  // Windows has neither.
  if (user === undefined) return;
  if (about.uid !== user && about.uid !== 0) throw new ConfigurationError(path, "it belongs to another user");
  if ((about.mode & forbidden) !== 0) {
    throw new ConfigurationError(path, `other users can ${what} it: run \`chmod 600\` on it`);
  }
}

function read(path: string, protection: Protection): Table {
  let handle: number | undefined;
  try {
    handle = openSync(path, "r");
    // Of the open file, since the file at the path can be replaced in between.
    checkProtection(path, fstatSync(handle), protection);
    return parse(readFileSync(handle, "utf8"), path);
  } catch (error) {
    if (isMissing(error)) return {};
    if (error instanceof ConfigurationError) throw error;
    throw new ConfigurationError(path, `it cannot be read: ${String(error)}`);
  } finally {
    if (handle !== undefined) closeSync(handle);
  }
}

function entry(file: Table, name: string, path: string): Table | undefined {
  const contexts = file["contexts"] ?? {};
  if (typeof contexts !== "object") throw new ConfigurationError(path, "`contexts` must be a table");
  const found = Object.hasOwn(contexts, name) ? contexts[name] : undefined;
  if (found !== undefined && typeof found !== "object") {
    throw new ConfigurationError(path, `\`contexts.${name}\` must be a table`);
  }
  return found;
}

function text(table: Table, key: string, path: string): string {
  const value: Value | Table = table[key] ?? "";
  if (typeof value !== "string") throw new ConfigurationError(path, `\`${key}\` must be a text`);
  return value;
}

/** The two files of a user. */
export class Contexts {
  readonly #contexts: string;
  readonly #credentials: string;
  readonly #lock: string;

  constructor(folder?: string) {
    const of = folder ?? join(configFolder(), "shoreguard");
    this.#contexts = join(of, "contexts.toml");
    this.#credentials = join(of, "credentials.toml");
    this.#lock = join(of, "credentials.lock");
  }

  /** Returns a context, or the current one, or undefined if none is current. */
  get(name?: string): Context | undefined {
    const path = this.#contexts;
    const file = read(path, TRUSTED);
    const wanted = name ?? text(file, "current", path);
    if (wanted === "") return undefined;
    const found = entry(file, wanted, path);
    if (found === undefined) throw new ConfigurationError("context", `\`${wanted}\` does not exist in ${path}`);
    const context = {
      name: wanted,
      endpoint: text(found, "endpoint", path),
      ca: text(found, "ca", path),
      gateway: text(found, "gateway", path),
    };
    if (context.endpoint === "") throw new ConfigurationError(path, `\`contexts.${wanted}.endpoint\` is missing`);
    return context;
  }

  /** Returns the credential of a context for an endpoint: its key, or the store of its session, or undefined. */
  credential(name: string, endpoint: string): string | SessionStore | undefined {
    const found = this.#credential(name, endpoint);
    if (found === undefined) return undefined;
    if ("session_token" in found) return new StoredSession(this, name, endpoint);
    return text(found, "key", this.#credentials) || undefined;
  }

  #credential(name: string, endpoint: string): Table | undefined {
    const found = entry(read(this.#credentials, SECRET), name, this.#credentials);
    if (found === undefined) return undefined;
    // A name can be given to another server while this program runs. Old entries are for the server of their context.
    const context = entry(read(this.#contexts, TRUSTED), name, this.#contexts) ?? {};
    const storedFor = text(found, "endpoint", this.#credentials) || text(context, "endpoint", this.#contexts);
    return storedFor === endpoint ? found : undefined;
  }

  /** Reads the session of a context. Undefined if it has ended, or is one for another endpoint. */
  session(name: string, endpoint: string): SessionTokens | undefined {
    const found = this.#credential(name, endpoint);
    if (found === undefined) return undefined;
    const expireTimeMs = Date.parse(text(found, "expire_time", this.#credentials));
    if (Number.isNaN(expireTimeMs)) {
      throw new ConfigurationError(this.#credentials, `\`contexts.${name}.expire_time\` must be a time with a time zone`);
    }
    return {
      sessionToken: text(found, "session_token", this.#credentials),
      refreshToken: text(found, "refresh_token", this.#credentials),
      expireTimeMs,
    };
  }

  /**
   * Replaces the session of a context, with the endpoint that it is for. The file is replaced as a whole. The caller
   * holds the lock.
   */
  store(name: string, endpoint: string, session: SessionTokens): void {
    const file = read(this.#credentials, SECRET);
    const contexts = (file["contexts"] ??= {}) as Table;
    contexts[name] = {
      ...entry(file, name, this.#credentials),
      endpoint,
      session_token: session.sessionToken,
      expire_time: new Date(session.expireTimeMs).toISOString(),
      refresh_token: session.refreshToken,
    };
    const path = this.#draft();
    try {
      const handle = openSync(path, "wx", 0o600);
      try {
        writeFileSync(handle, stringify(file));
        fsyncSync(handle);
      } finally {
        closeSync(handle);
      }
      renameSync(path, this.#credentials);
    } catch (error) {
      rmSync(path, { force: true });
      throw error;
    }
  }

  /** Returns the path of a new file beside the credentials. */
  #draft(): string {
    return join(dirname(this.#credentials), `.credentials-${randomBytes(8).toString("hex")}`);
  }

  /** Refuses a folder in which credentials cannot be replaced, before a refresh token is used. */
  requireWritable(): void {
    const path = this.#draft();
    try {
      closeSync(openSync(path, "wx", 0o600));
      rmSync(path, { force: true });
    } catch (error) {
      throw new ConfigurationError(this.#credentials, `it cannot be written: ${String(error)}`);
    }
  }

  /** Runs `work` while no other program writes credentials. */
  async locked<T>(work: () => Promise<T>): Promise<T> {
    try {
      mkdirSync(dirname(this.#lock), { recursive: true, mode: 0o700 });
      closeSync(openSync(this.#lock, "a", 0o600));
    } catch (error) {
      throw new ConfigurationError(this.#lock, `it cannot be written: ${String(error)}`);
    }
    // Node has no `flock`, which the command line and the other SDKs use. The program holds it until its input ends.
    const script = "echo locked; exec cat >/dev/null";
    const holder = spawn("flock", ["--exclusive", "--timeout", `${LOCK_SECONDS}`, this.#lock, "sh", "-c", script], {
      stdio: ["pipe", "pipe", "ignore"],
    });
    holder.stdin.on("error", () => undefined);
    const ended = once(holder, "exit");
    try {
      const first = await Promise.race([once(holder.stdout, "data"), ended.then(() => undefined)]);
      if (first === undefined) {
        throw new ConfigurationError(this.#lock, `another program holds the lock for more than ${LOCK_SECONDS} s`);
      }
      return await work();
    } catch (error) {
      if (!isMissing(error)) throw error;
      throw new ConfigurationError("context", "a stored session needs the program `flock` of util-linux");
    } finally {
      holder.stdin.end();
      await ended.catch(() => undefined);
    }
  }
}

/** The session of a context. */
class StoredSession implements SessionStore {
  readonly #contexts: Contexts;
  readonly #name: string;
  readonly #endpoint: string;

  constructor(contexts: Contexts, name: string, endpoint: string) {
    this.#contexts = contexts;
    this.#name = name;
    this.#endpoint = endpoint;
  }

  exclusively<T>(work: () => Promise<T>): Promise<T> {
    return this.#contexts.locked(async () => {
      this.#contexts.requireWritable();
      return work();
    });
  }

  async read(): Promise<SessionTokens | undefined> {
    return this.#contexts.session(this.#name, this.#endpoint);
  }

  async write(session: SessionTokens): Promise<void> {
    this.#contexts.store(this.#name, this.#endpoint, session);
  }
}
