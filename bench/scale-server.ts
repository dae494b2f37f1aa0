import { readFileSync } from "node:fs";
import { connect } from "node:http2";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { startServer } from "./server-process.ts";
import type { ServerProcess } from "./server-process.ts";

/** A whole server, whose memory can be looked at. Sizes are bytes. */
export interface ScaleServer extends ServerProcess {
  /** Seconds from the start of the process to its first line. */
  readonly startSeconds: number;
  /** A unary call with JSON; fails unless it is answered with 200. */
  call(method: string, request: object, token?: string): Promise<Record<string, unknown>>;
  memory(): Promise<Memory>;
  /** The longest time that the event loop was held since this was asked for last, in milliseconds. */
  longestStall(): Promise<number>;
}

export interface Memory {
  readonly rss: number;
  readonly heap: number;
  readonly external: number;
}

const callMs = 120_000;

export async function startScaleServer(dataDir: string, args: readonly string[], nodeOptions: readonly string[]) {
  const adminPort = await freePort();
  const main = join(import.meta.dirname, "../bin/sluice.js");
  const begun = performance.now();
  const server = await startServer([
    process.execPath,
    ...nodeOptions,
    main,
    "serve",
    ...["--port", "0", "--admin-port", String(adminPort), "--data-dir", dataDir, "--log-level", "warn", ...args],
  ]);
  const startSeconds = (performance.now() - begun) / 1000;
  const session = connect(`http://${server.target}`);
  session.on("error", () => undefined);

  function call(method: string, request: object, token = "sample"): Promise<Record<string, unknown>> {
    return new Promise((resolve, reject) => {
      const stream = session.request({
        ":method": "POST",
        ":path": `/${method}`,
        "content-type": "application/json",
        "acme-token": token,
      });
      let status = 0;
      let text = "";
      stream.setTimeout(callMs, () => {
        reject(new Error(`${method} was not answered within ${callMs} ms`));
      });
      stream.once("response", (headers) => (status = headers[":status"] ?? 0));
      stream.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      stream.once("error", reject);
      stream.once("end", () => {
        if (status === 200) resolve(JSON.parse(text) as Record<string, unknown>);
        else reject(new Error(`${method} was answered with ${status}: ${text}`));
      });
      stream.end(JSON.stringify(request));
    });
  }

  async function metrics(): Promise<Map<string, number>> {
    const text = await (await fetch(`http://127.0.0.1:${adminPort}/metrics`)).text();
    return new Map([...text.matchAll(/^(\w+) (\S+)$/gm)].map(([, name = "", value]) => [name, Number(value)]));
  }

  const scaled: ScaleServer = {
    ...server,
    startSeconds,
    call,
    async memory() {
      const found = await metrics();
      return {
        rss: residentBytes(server.pid),
        heap: found.get("nodejs_heap_size_used_bytes") ?? NaN,
        external: found.get("nodejs_external_memory_bytes") ?? NaN,
      };
    },
    async longestStall() {
      return ((await metrics()).get("nodejs_eventloop_lag_max_seconds") ?? NaN) * 1000;
    },
    async stop() {
      session.destroy();
      await server.stop();
    },
  };
  return scaled;
}

/** What the process has in memory. */
function residentBytes(pid: number): number {
  const kibibytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kibibytes) * 1024;
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => {
        resolve(port);
      });
    });
  });
}
