import { join } from "node:path";
import { buildDir } from "./contenders.ts";
import { runLoadProgram } from "./load-program.ts";
import type { Measurement } from "./load-program.ts";
import type { ServerProcess } from "./server-process.ts";

export interface TlsLoad {
  readonly http3: boolean;
  /** PEM file with the CA to trust. */
  readonly ca: string;
  readonly shape: "upload-joined" | "download-joined" | "paced";
  /** Bytes of data in a message. */
  readonly size: number;
  /** All on one connection. */
  readonly streams: number;
  /** Of the shape paced: messages a second, of all streams together. */
  readonly rate?: number;
  /** Seconds, as all that follow. */
  readonly warmup: number;
  readonly seconds: number;
  readonly drain: number;
  /** Threads of the client. */
  readonly procs: number;
}

/** What makes the load. */
export const tlsClient = "quic-go's http3.Transport, net/http for HTTP/2";

/**
 * Puts a server under load, and measures it. One program in Go speaks HTTP/3, with quic-go, and HTTP/2 over TLS, with
 * net/http; what it sends, reads and counts is the same code. `within` is put before its command.
 */
export async function runTlsLoad(
  server: ServerProcess,
  { http3, procs, warmup, seconds, drain, ...load }: TlsLoad,
  within: readonly string[] = [],
): Promise<Measurement> {
  const args = {
    target: server.target,
    pid: server.pid,
    ...load,
    http3,
    connections: 1,
    warmup: `${warmup}s`,
    duration: `${seconds}s`,
    drain: `${drain}s`,
  };
  const [first, ...rest] = [...within, join(buildDir, "load")];
  return runLoadProgram([first, ...rest], args, { procs, timeout: warmup + seconds + drain + 90 });
}
