import { createClient } from "@connectrpc/connect";
import {
  compressionGzip,
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { expect, it, onTestFinished } from "vitest";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { deferred, within } from "../support/deadline.ts";
import { useServer } from "../support/server.ts";

// The request that a handler waits for, after one that was compressed, waited for itself when it arrived. Clients
// leave short messages as they are, so that a stream has both kinds.
it.each([
  ["connect", createConnectTransport],
  ["grpc", createGrpcTransport],
  ["grpc-web", createGrpcWebTransport],
])("requests, compressed or not, are answered one by one over %s", async (_, createTransport) => {
  const server = await useServer();
  const leaving = new AbortController();
  onTestFinished(() => {
    leaving.abort();
  });
  const transport = createTransport({
    baseUrl: server.url,
    httpVersion: "2",
    sendCompression: compressionGzip,
    compressMinBytes: 10,
  });
  const names = ["Margaret Hamilton", "Ada", "Grace", "Barbara Liskov", "Edsger Dijkstra", "Tony"];
  let answered = deferred();
  async function* requests() {
    for (const name of names) {
      const answer = answered.promise;
      yield { name };
      await answer;
    }
  }
  const call = createClient(GreetService, transport).greetEach(requests(), {
    headers: { authorization: "Bearer sample" },
    signal: leaving.signal,
  });
  const greetings: string[] = [];
  const read = async (): Promise<void> => {
    for await (const { greeting } of call) {
      greetings.push(greeting);
      answered.resolve();
      answered = deferred();
    }
  };
  await within(10_000, "the last answer", read());
  expect(greetings).toEqual(names.map((name) => `Hello, ${name}!`));
});
