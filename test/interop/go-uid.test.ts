import { afterAll, beforeAll, expect, it } from "vitest";
import type { Server } from "../../src/compose.ts";
import { jsonLines } from "../support/cli.ts";
import { startServer } from "../support/server.ts";
import { useGoPrograms } from "./support/go.ts";
import { runProgram } from "./support/programs.ts";

const program = useGoPrograms("uidclient");

let server: Server;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server.close());

const protocols = ["connect", "connect-http1", "connect-grpc", "grpc-web", "grpc"];

it.each(protocols)(
  "a client in Go is told of the stream that it meets, and of another one, over %s",
  async (protocol) => {
    const args = [`-protocol=${protocol}`, `-stream=expected/${protocol}`, new URL(server.url).host];
    const { code, stdout, stderr } = await runProgram(program("uidclient"), args);
    expect([code, stderr]).toEqual([0, ""]);
    // Full duplex needs HTTP/2.
    const calls = ["append", "claim", "upload", "read", "exchange", "seal"].filter(
      (call) => protocol !== "connect-http1" || call !== "exchange",
    );
    const replaced = { uid: "second", code: "failed_precondition", reason: "STREAM_REPLACED" };
    expect(jsonLines(stdout)).toEqual([
      ...calls.map((step) => ({ step, uid: "first" })),
      ...calls.map((step) => ({ step, ...replaced })),
    ]);
  },
);
