import { Code } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import { constants, brotliCompressSync, gzipSync } from "node:zlib";
import { describe, expect, it, onTestFinished } from "vitest";
import { useServer } from "../support/server.ts";
import { envelope } from "../support/raw.ts";
import { createRawClient } from "../support/raw-call.ts";
import type { RawAnswer } from "../support/raw-call.ts";

// A message of 4 MiB whose fields are two bytes each took 350 MB and 0.6 s: each unknown field became an object.

const MiB = 1024 * 1024;

/** What is wrong with a message, and what the server makes of it. */
interface Hostile {
  readonly name: string;
  readonly method: string;
  readonly json?: boolean;
  readonly payload: Buffer;
  readonly code: Code;
  readonly message: RegExp;
}

function repeated(bytes: readonly number[], length: number): Buffer {
  return Buffer.alloc(length, Buffer.from(bytes));
}

const append = "data.v1.DataService/Append";
const greet = "greet.v1.GreetService/Greet";
const tooMany = { code: Code.ResourceExhausted, message: /^the message has more than 131072 fields/ };
const tooDeep = { code: Code.InvalidArgument, message: /nested more than \d+ levels deep/ };

const tooLong = { code: Code.InvalidArgument, message: /far more than it may have$/ };

const hostile: readonly Hostile[] = [
  // A pattern was matched with all of it.
  {
    name: "a long text",
    method: append,
    payload: Buffer.concat([Buffer.from([0x0a, 0x80, 0x80, 0xc0, 0x01]), Buffer.alloc(3 * MiB, "x")]),
    ...tooLong,
  },
  {
    name: "a long text in JSON",
    method: greet,
    json: true,
    payload: Buffer.from(`{"name":"${"x".repeat(3 * MiB)}"}`),
    ...tooLong,
  },
  { name: "unknown fields", method: greet, payload: repeated([0x7a, 0], 4 * MiB - 64), ...tooMany },
  { name: "unknown varints", method: greet, payload: repeated([0x78, 1], 4 * MiB - 64), ...tooMany },
  { name: "empty records", method: append, payload: repeated([0x12, 0], 4 * MiB - 64), ...tooMany },
  { name: "the same known field", method: append, payload: repeated([0x18, 1], 4 * MiB - 64), ...tooMany },
  {
    name: "map entries",
    method: append,
    payload: Buffer.concat([Buffer.from([0x12, 0x80, 0x80, 0xc0, 0x01]), repeated([0x0a, 0], 3 * MiB)]),
    ...tooMany,
  },
  { name: "unknown groups", method: greet, payload: repeated([0x7b, 0x7c], 4 * MiB - 64), ...tooMany },
  { name: "groups in groups", method: greet, payload: repeated([0x7b], MiB), ...tooDeep },
  { name: "objects", method: append, json: true, payload: Buffer.from(`{"x":[${"{},".repeat(MiB)}{}]}`), ...tooMany },
  { name: "arrays", method: append, json: true, payload: Buffer.from(`{"x":[${"[],".repeat(MiB)}0]}`), ...tooMany },
  {
    name: "known objects",
    method: append,
    json: true,
    payload: Buffer.from(`{"records":[${"{},".repeat(MiB)}{}]}`),
    ...tooMany,
  },
  {
    name: "numbers",
    method: append,
    json: true,
    payload: Buffer.from(`{"x":[${"1,".repeat(1.5 * MiB)}1]}`),
    ...tooMany,
  },
  {
    name: "keys",
    method: append,
    json: true,
    payload: Buffer.from(`{${Array.from({ length: 300_000 }, (_, i) => `"k${i}":1`).join()}}`),
    ...tooMany,
  },
  { name: "arrays in arrays", method: greet, json: true, payload: Buffer.from("[".repeat(4 * MiB - 64)), ...tooDeep },
  {
    name: "objects in objects",
    method: greet,
    json: true,
    payload: Buffer.from(`{"a":`.repeat(500_000)),
    ...tooDeep,
  },
];

/** How a request says what it is, and how an answer says what was wrong. */
interface Door {
  readonly name: string;
  readonly httpVersion: "1.1" | "2";
  call(request: Hostile, encoding: string | undefined): { headers: Record<string, string>; body: Buffer };
  outcome(answer: RawAnswer): { code: string; message: string };
}

function compressed(payload: Buffer, encoding: string | undefined): Buffer {
  if (encoding === "gzip") return gzipSync(payload, { level: 1 });
  const params = { [constants.BROTLI_PARAM_QUALITY]: 1 };
  return encoding === "br" ? brotliCompressSync(payload, { params }) : payload;
}

function connectUnary(httpVersion: "1.1" | "2"): Door {
  return {
    name: `Connect unary over HTTP/${httpVersion}`,
    httpVersion,
    call: ({ json, payload }, encoding) => ({
      headers: {
        "content-type": json === true ? "application/json" : "application/proto",
        ...(encoding === undefined ? {} : { "content-encoding": encoding }),
      },
      body: compressed(payload, encoding),
    }),
    outcome({ body, headers }) {
      expect(headers["content-encoding"]).toBeUndefined();
      return JSON.parse(body.toString()) as { code: string; message: string };
    },
  };
}

function enveloped(protocol: "grpc" | "grpc-web", httpVersion: "1.1" | "2"): Door {
  return {
    name: `${protocol} over HTTP/${httpVersion}`,
    httpVersion,
    call: ({ json, payload }, encoding) => ({
      headers: {
        "content-type": `application/${protocol}+${json === true ? "json" : "proto"}`,
        ...(encoding === undefined ? {} : { "grpc-encoding": encoding }),
        ...(protocol === "grpc" ? { te: "trailers" } : {}),
      },
      body: envelope(compressed(payload, encoding), encoding === undefined ? 0 : 1),
    }),
    outcome({ trailers, body }) {
      const text = protocol === "grpc" ? "" : body.subarray(5).toString();
      const field = (name: string): string =>
        protocol === "grpc" ? String(trailers[name]) : (new RegExp(`^${name}: (.*)\r$`, "m").exec(text)?.[1] ?? "");
      const expected = [Code.ResourceExhausted, Code.InvalidArgument];
      const code = expected.find((one) => String(one) === field("grpc-status"));
      return {
        code: code === undefined ? field("grpc-status") : codeToString(code),
        message: decodeURIComponent(field("grpc-message")),
      };
    },
  };
}

const doors: readonly Door[] = [
  connectUnary("1.1"),
  connectUnary("2"),
  enveloped("grpc", "2"),
  enveloped("grpc-web", "1.1"),
  enveloped("grpc-web", "2"),
];

describe.each(doors)("a message that costs more than it looks, with $name", (door) => {
  it.each(hostile)("is refused: $name", async (request) => {
    const server = await useServer();
    const client = createRawClient(server.url, door.httpVersion);
    onTestFinished(() => {
      client.close();
    });
    for (const encoding of [undefined, "gzip", "br"]) {
      const { headers, body } = door.call(request, encoding);
      const answer = await client.call({
        path: `/${request.method}`,
        headers: { ...headers, authorization: "Bearer sample" },
        body: [body],
      });
      const { code, message } = door.outcome(answer);
      expect(code).toBe(codeToString(request.code));
      expect(message).toMatch(request.message);
    }
  });
});

describe("a GET", () => {
  for (const encoding of ["gzip", "br"]) {
    it(`whose ${encoding} message inflates to too many elements is refused`, async () => {
      const server = await useServer();
      let tried = 0;
      for (const request of hostile.filter(({ method }) => method === greet)) {
        const query = new URLSearchParams({
          connect: "v1",
          encoding: request.json === true ? "json" : "proto",
          compression: encoding,
          base64: "1",
          message: compressed(request.payload, encoding).toString("base64url"),
        });
        const url = `${server.url}/${greet}?${query.toString()}`;
        // Node's limit for headers, the query included, is --max-header-bytes.
        if (url.length > 15_000) continue;
        tried++;
        const answer = await fetch(url, { headers: { authorization: "Bearer sample" } });
        expect(await answer.json()).toMatchObject({
          code: codeToString(request.code),
          message: expect.stringMatching(request.message) as unknown,
        });
      }
      expect(tried).toBeGreaterThan(0);
    });
  }
});

describe("what is within the limits", () => {
  it("is served, and its unknown fields are dropped", async () => {
    const server = await useServer();
    const client = createRawClient(server.url, "2");
    onTestFinished(() => {
      client.close();
    });
    const name = Buffer.from([0x0a, 3, 0x41, 0x64, 0x61]);
    const payload = Buffer.concat([repeated([0x7a, 0], 200_000), name]);
    const request = { name: "", method: greet, payload, code: Code.Internal, message: /./ };
    for (const encoding of [undefined, "gzip", "br"]) {
      const { headers, body } = connectUnary("2").call(request, encoding);
      const answer = await client.call({
        path: `/${greet}`,
        headers: { ...headers, authorization: "Bearer sample" },
        body: [body],
      });
      expect(answer.status).toBe(200);
      expect(answer.body.toString()).toContain("Hello, Ada!");
    }
  });
});

describe("a service that answers without a token", () => {
  const check = "grpc.health.v1.Health/Check";

  it.each(doors)("takes messages of --max-open-message-bytes, with $name, compressed or not", async (door) => {
    const server = await useServer({ maxOpenMessageBytes: 32 * 1024 });
    const client = createRawClient(server.url, door.httpVersion);
    onTestFinished(() => {
      client.close();
    });
    const message = /^message (size \d+ )?is larger than configured readMaxBytes 32768/;
    for (const encoding of [undefined, "gzip", "br"]) {
      // One long unknown field.
      const length = 32 * 1024 + 1;
      const payload = Buffer.concat([Buffer.from([0x7a, 0x80, 0x80, 0x02]), Buffer.alloc(length)]);
      const request = { name: "", method: check, payload, code: Code.ResourceExhausted, message };
      const { headers, body } = door.call(request, encoding);
      const outcome = door.outcome(await client.call({ path: `/${check}`, headers, body: [body] }));
      expect(outcome.code).toBe("resource_exhausted");
      expect(outcome.message).toMatch(message);
    }
  });
});
