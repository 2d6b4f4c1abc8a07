// Starts servers for the tests, each with a folder of its own, and a port that the system chooses.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { Unavailable } from "../src/index.js";

/** Repeats a call for as long as a restart takes, which can be longer than the attempts of one call. */
export async function persist<T>(call: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
    }
  }
}

/** What `dev --json` prints. */
interface Printed {
  readonly admin_key: string;
  readonly public_url: string;
  readonly gateways: readonly { readonly name: string; readonly key: string; readonly endpoint: string }[];
}

/** Returns the server program: `SHOREGUARD_BIN`, or that of a build of this tree. */
export function program(): string {
  const built = resolve(import.meta.dirname, "../../../../target/debug/shoreguard");
  const found = process.env["SHOREGUARD_BIN"] ?? built;
  if (!existsSync(found)) throw new Error(`${found} does not exist: build the server, or set SHOREGUARD_BIN`);
  return resolve(found);
}

/**
 * A server with two simulated gateways. It keeps its port when it is restarted. The port is most likely still free:
 * Linux prefers other ports for connections, and chooses those of listeners at random.
 */
export class Server {
  key = "";
  port = 0;
  printed: Printed | undefined;
  #process: ChildProcess | undefined;

  private constructor(readonly folder: string) {}

  static async start(): Promise<Server> {
    const server = new Server(mkdtempSync(join(tmpdir(), "shoreguard-test-")));
    await server.run();
    return server;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Starts it again, with a new admin key. */
  async run(): Promise<void> {
    const args = ["dev", "--json", "--data", join(this.folder, "data"), "--listen", `127.0.0.1:${this.port}`];
    const child = spawn(program(), args, {
      env: { PATH: process.env["PATH"], HOME: this.folder },
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#process = child;
    const [line] = (await Promise.race([
      once(createInterface(child.stdout), "line"),
      once(child, "exit").then(() => {
        throw new Error("the server has ended");
      }),
    ])) as [string];
    this.printed = JSON.parse(line) as Printed;
    this.key = this.printed.admin_key;
    this.port = Number(new URL(this.printed.public_url).port);
  }

  /** Stops it, as `kill` does, or as a crash. */
  async stop(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child === undefined || child.exitCode !== null) return;
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  }

  async remove(): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
