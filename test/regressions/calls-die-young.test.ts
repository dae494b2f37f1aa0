import { create, toBinary } from "@bufbuild/protobuf";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { GreetRequestSchema, GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { createSluiceClient } from "../../src/client/index.ts";
import { envelopeOf } from "../support/envelopes.ts";
import { tlsFiles } from "../support/http3.ts";
import { createRawClient } from "../support/raw-call.ts";
import { startServerProcess } from "../support/server-process.ts";

// Half of what each call had made outlived it until the next full collection: objects with a getter of their own got a
// hidden class each, which referred to the getter and all that it knew, and streams were kept in the old tables of
// Maps: node:http2's, and the engine's of HTTP/3. The collector then spent more time on small calls than the runtime.

/** What a call may leave behind, in bytes. Over HTTP/2, 2 kB of it are node:http2's own. */
const mostBytes = 4500;

/** Bytes of JavaScript's heap that each call leaves behind, as long as there is no full collection. */
async function leftBehind(flags: string[], callsOf: (url: string) => () => Promise<unknown>): Promise<number> {
  const server = await startServerProcess(["--store", "memory", ...flags], {
    inspect: true,
    // A small nursery, that is collected often, and no full collection meanwhile.
    nodeOptions: ["--max-semi-space-size=1", "--initial-old-space-size=1024"],
  });
  const call = callsOf(server.url);
  const calls = 4000;
  const run = async (): Promise<void> => {
    const lanes = 10;
    const lane = async (): Promise<void> => {
      for (let i = 0; i < calls / lanes; i++) await call();
    };
    await Promise.all(Array.from({ length: lanes }, lane));
  };
  // Code that is compiled stays.
  await run();
  await server.heldMemory();
  const before = await server.usedHeap();
  await run();
  return ((await server.usedHeap()) - before) / calls;
}

it("what a call over HTTP/2 has made is garbage when it is over", { timeout: 120_000 }, async () => {
  const call = {
    path: `/${GreetService.typeName}/Greet`,
    headers: { "content-type": "application/grpc+proto", te: "trailers", authorization: "Bearer sample" },
    body: [envelopeOf(toBinary(GreetRequestSchema, create(GreetRequestSchema, { name: "Ada" })))],
  };
  const left = await leftBehind([], (url) => {
    const client = createRawClient(url, "2");
    onTestFinished(() => {
      client.close();
    });
    return async () => {
      expect((await client.call(call)).trailers["grpc-status"]).toBe("0");
    };
  });
  expect(left).toBeLessThan(mostBytes);
});

it("what a call over HTTP/3 has made is garbage when it is over", { timeout: 120_000 }, async () => {
  const dir = await mkdtemp(join(tmpdir(), "sluice-young-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const files = { cert: join(dir, "cert.pem"), key: join(dir, "key.pem") };
  await writeFile(files.cert, tlsFiles.cert);
  await writeFile(files.key, tlsFiles.key);
  const left = await leftBehind(["--http3", "--tls-cert", files.cert, "--tls-key", files.key], (url) => {
    const client = createSluiceClient({ url, token: "sample", httpVersion: "3", protocol: "grpc", ca: tlsFiles.ca });
    onTestFinished(() => client.close());
    return () => client.greet.greet({ name: "Ada" });
  });
  expect(left).toBeLessThan(mostBytes);
});
