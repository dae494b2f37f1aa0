import { create, toBinary } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { GreetRequestSchema, GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { envelopeOf } from "../support/envelopes.ts";
import { createRawClient } from "../support/raw-call.ts";
import { startServerProcess } from "../support/server-process.ts";

// Half of what each call had made outlived it until the next full collection: objects with a getter of their own got a
// hidden class each, which referred to the getter and all that it knew, and node:http2 kept each stream in the old
// tables of a Map. The collector then spent more time on small calls than the runtime.
it("what a call has made is garbage when the call is over, and young", { timeout: 120_000 }, async () => {
  const server = await startServerProcess(["--store", "memory"], {
    inspect: true,
    // A small nursery, that is collected often, and no full collection meanwhile.
    nodeOptions: ["--max-semi-space-size=1", "--initial-old-space-size=1024"],
  });
  const client = createRawClient(server.url, "2");
  const call = {
    path: `/${GreetService.typeName}/Greet`,
    headers: { "content-type": "application/grpc+proto", te: "trailers", authorization: "Bearer sample" },
    body: [envelopeOf(toBinary(GreetRequestSchema, create(GreetRequestSchema, { name: "Ada" })))],
  };
  const run = async (calls: number): Promise<void> => {
    const lanes = 10;
    const lane = async (): Promise<void> => {
      for (let i = 0; i < calls / lanes; i++) expect((await client.call(call)).trailers["grpc-status"]).toBe("0");
    };
    await Promise.all(Array.from({ length: lanes }, lane));
  };
  try {
    // Code that is compiled stays.
    await run(4000);
    await server.heldMemory();
    const before = await server.usedHeap();
    const calls = 4000;
    await run(calls);
    const survived = ((await server.usedHeap()) - before) / calls;
    // Of these, 2 kB are node:http2's own.
    expect(survived).toBeLessThan(4500);
  } finally {
    client.close();
  }
});
