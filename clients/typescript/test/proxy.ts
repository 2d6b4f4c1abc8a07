// A TCP proxy that loses answers.
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** Forwards connections to a port. */
export class Proxy {
  /** How many answers to lose, each with its connection. */
  lose = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(port: number) {
    this.#server = createServer((client) => {
      const server = connect(port, "127.0.0.1");
      for (const socket of [client, server]) {
        this.#sockets.add(socket);
        socket.on("error", () => undefined);
        socket.on("close", () => this.#sockets.delete(socket));
      }
      client.pipe(server);
      client.on("close", () => server.destroy());
      server.on("close", () => client.destroy());
      server.on("data", (bytes: Buffer) => {
        // Acknowledged settings and pings are short; an answer has headers and a message.
        if (this.lose > 0 && bytes.length > 60) {
          this.lose -= 1;
          client.destroy();
          return;
        }
        client.write(bytes);
      });
    });
  }

  static async start(port: number): Promise<Proxy> {
    const proxy = new Proxy(port);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Drops all connections. */
  drop(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    this.#server.close();
    this.drop();
    await once(this.#server, "close");
  }
}
