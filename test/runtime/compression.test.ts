import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { brotliCompressSync, brotliDecompressSync, gunzipSync, gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { GreetEachResponseSchema, GreetRequestSchema, GreetResponseSchema } from "../../gen/greet/v1/greet_pb.ts";
import type { Server } from "../../src/compose.ts";
import { envelope, envelopesOf, post, useSession } from "../support/raw.ts";
import { startServer } from "../support/server.ts";

const greet = "/greet.v1.GreetService/Greet";
const greetEach = "/greet.v1.GreetService/GreetEach";

const ada = toBinary(GreetRequestSchema, create(GreetRequestSchema, { name: "Ada" }));
const codecs = {
  gzip: { compress: (bytes: Uint8Array) => gzipSync(bytes), decompress: (bytes: Uint8Array) => gunzipSync(bytes) },
  br: {
    compress: (bytes: Uint8Array) => brotliCompressSync(bytes),
    decompress: (bytes: Uint8Array) => brotliDecompressSync(bytes),
  },
} as const;
const names = ["gzip", "br"] as const;

const maxMessageBytes = 16 * 1024;

interface Wire {
  readonly type: string;
  readonly encoding: string;
  readonly accept: string;
}
const connectUnary: Wire = { type: "application/proto", encoding: "content-encoding", accept: "accept-encoding" };
const streams: Record<string, Wire> = {
  connect: {
    type: "application/connect+proto",
    encoding: "connect-content-encoding",
    accept: "connect-accept-encoding",
  },
  grpc: { type: "application/grpc+proto", encoding: "grpc-encoding", accept: "grpc-accept-encoding" },
  "grpc-web": { type: "application/grpc-web+proto", encoding: "grpc-encoding", accept: "grpc-accept-encoding" },
};
/** gRPC's unary calls have envelopes too. */
const enveloped = Object.entries(streams).flatMap(([protocol, wire]) =>
  (protocol === "connect" ? [greetEach] : [greet, greetEach]).map((path) => ({ protocol, wire, path })),
);

/** The messages of a response, without what ends it (Connect's flag 0b10, gRPC-Web's 0x80). */
function messagesOf(body: Buffer): { flags: number; data: Buffer }[] {
  return envelopesOf(body).filter(({ flags }) => (flags & 0b1000_0010) === 0);
}

/** Code and message of a failed stream, wherever its protocol has them. */
function failureOf(
  { head, trailers, body }: Awaited<ReturnType<typeof post>["end"]>,
  name: (typeof names)[number] = "gzip",
): string {
  const status = head["grpc-status"] ?? trailers["grpc-status"];
  if (status !== undefined) {
    return `${String(status)} ${decodeURIComponent(String(head["grpc-message"] ?? trailers["grpc-message"]))}`;
  }
  const last = envelopesOf(body).at(-1);
  if (last === undefined) return "nothing";
  const data = (last.flags & 1) === 0 ? last.data : codecs[name].decompress(last.data);
  return decodeURIComponent(data.toString());
}

describe("a server that compresses what clients accept, streams too", () => {
  let server: Server;
  beforeAll(async () => {
    server = await startServer({
      compressStreams: true,
      compressMinBytes: 0,
      maxMessageBytes,
      maxBatchBytes: maxMessageBytes,
    });
  });
  afterAll(() => server.close());

  for (const name of names) {
    const { compress, decompress } = codecs[name];

    it(`unary Connect understands and answers with ${name}`, async () => {
      const { type, encoding, accept } = connectUnary;
      const call = post(useSession(server.url), greet, { "content-type": type, [encoding]: name, [accept]: name });
      call.stream.end(compress(ada));
      const { head, body } = await call.end;
      expect(head).toMatchObject({ ":status": 200, [encoding]: name });
      expect(fromBinary(GreetResponseSchema, decompress(body)).greeting).toBe("Hello, Ada!");
    });

    for (const { protocol, wire, path } of enveloped) {
      it(`${protocol} understands and answers with ${name}: ${path}`, async () => {
        const headers = { "content-type": wire.type, [wire.encoding]: name, [wire.accept]: name };
        const call = post(useSession(server.url), path, headers);
        call.stream.end(envelope(compress(ada), 1));
        const { head, body } = await call.end;
        expect(head).toMatchObject({ ":status": 200, [wire.encoding]: name });
        const [message] = messagesOf(body);
        expect(message?.flags).toBe(1);
        const data = decompress(message?.data ?? new Uint8Array());
        expect(fromBinary(GreetEachResponseSchema, data).greeting).toBe("Hello, Ada!");
      });
    }
  }

  it("takes messages that are not compressed on a stream that says it is", async () => {
    const headers = { "content-type": "application/grpc+proto", "grpc-encoding": "gzip" };
    const call = post(useSession(server.url), greetEach, headers);
    call.stream.end(Buffer.concat([envelope(ada), envelope(gzipSync(ada), 1), envelope(ada)]));
    expect(messagesOf((await call.end).body).length).toBe(3);
  });

  it("an unknown compression is UNIMPLEMENTED, with the list of those that are known", async () => {
    const { type, encoding } = connectUnary;
    const unary = post(useSession(server.url), greet, { "content-type": type, [encoding]: "zip" });
    unary.stream.end(ada);
    const answer = await unary.end;
    expect(JSON.parse(answer.body.toString())).toMatchObject({
      code: "unimplemented",
      message: 'unknown compression "zip": supported encodings are gzip,br',
    });
    for (const { wire, path } of enveloped) {
      const call = post(useSession(server.url), path, { "content-type": wire.type, [wire.encoding]: "zip" });
      call.stream.end(envelope(ada, 1));
      const failure = failureOf(await call.end);
      expect(failure).toMatch(/^12 |"unimplemented"|grpc-status: 12/);
      expect(failure).toContain("supported encodings are gzip,br");
    }
  });

  it("a message that is said to be compressed, but is not, is refused", async () => {
    for (const { wire, path } of enveloped) {
      const call = post(useSession(server.url), path, { "content-type": wire.type, [wire.encoding]: "gzip" });
      call.stream.end(envelope(ada, 1));
      expect(failureOf(await call.end)).toMatch(/^(3|13) |"(invalid_argument|internal)"|grpc-status: (3|13)/);
    }
  });

  for (const name of names) {
    it(`a bomb of ${name} is stopped at --max-message-bytes`, async () => {
      const { compress, decompress } = codecs[name];
      const huge = create(GreetRequestSchema, { name: "x".repeat(2 * 1024 * 1024) });
      const bomb = compress(toBinary(GreetRequestSchema, huge));
      expect(bomb.byteLength).toBeLessThan(maxMessageBytes);
      const { type, encoding } = connectUnary;
      const unary = post(useSession(server.url), greet, { "content-type": type, [encoding]: name });
      unary.stream.end(bomb);
      const { head, body } = await unary.end;
      expect(head).toMatchObject({ ":status": 429, [encoding]: name });
      expect(JSON.parse(decompress(body).toString())).toMatchObject({ code: "resource_exhausted" });
      for (const { wire, path } of enveloped) {
        const call = post(useSession(server.url), path, { "content-type": wire.type, [wire.encoding]: name });
        call.stream.end(envelope(bomb, 1));
        expect(failureOf(await call.end, name)).toMatch(/^8 |"resource_exhausted"|grpc-status: 8/);
      }
    });
  }
});

describe("a server with the defaults", () => {
  let server: Server;
  beforeAll(async () => {
    server = await startServer({ compressMinBytes: 0 });
  });
  afterAll(() => server.close());

  for (const [protocol, wire] of Object.entries(streams)) {
    for (const [what, headers, body] of [
      ["a client that accepts it", { [wire.accept]: "gzip" }, envelope(ada)],
      ["a client that sends it", { [wire.encoding]: "gzip" }, envelope(gzipSync(ada), 1)],
      ["a client that does both", { [wire.encoding]: "gzip", [wire.accept]: "gzip" }, envelope(gzipSync(ada), 1)],
    ] as const) {
      it(`does not compress streams, over ${protocol}, to ${what}`, async () => {
        const call = post(useSession(server.url), greetEach, { "content-type": wire.type, ...headers });
        call.stream.end(body);
        const { head, body: answer } = await call.end;
        expect(head[wire.encoding]).toBeUndefined();
        const [message] = messagesOf(answer);
        expect(message?.flags).toBe(0);
        expect(fromBinary(GreetEachResponseSchema, message?.data ?? new Uint8Array()).greeting).toBe("Hello, Ada!");
      });
    }
  }

  it("compresses unary answers from --compress-min-bytes on, if the client accepts it", async () => {
    const strict = await startServer({ compressMinBytes: 64 });
    try {
      for (const [name, expected] of [
        ["Ada", undefined],
        ["x".repeat(90), "gzip"],
      ] as const) {
        const call = post(useSession(strict.url), greet, {
          "content-type": "application/proto",
          "accept-encoding": "gzip",
        });
        call.stream.end(toBinary(GreetRequestSchema, create(GreetRequestSchema, { name })));
        expect((await call.end).head["content-encoding"]).toBe(expected);
      }
      const plain = post(useSession(strict.url), greet, { "content-type": "application/proto" });
      plain.stream.end(toBinary(GreetRequestSchema, create(GreetRequestSchema, { name: "x".repeat(90) })));
      expect((await plain.end).head["content-encoding"]).toBeUndefined();
    } finally {
      await strict.close();
    }
  });
});
