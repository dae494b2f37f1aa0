import { ScalarType, create, createFileRegistry, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { DescMessage, DescMethod, DescService, Message } from "@bufbuild/protobuf";
import {
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  StringValueSchema,
  file_google_protobuf_wrappers,
} from "@bufbuild/protobuf/wkt";
import type { StringValue } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import type { ConnectRouter, ServiceImpl } from "@connectrpc/connect";
import { Client, credentials, Metadata, status as grpcStatus } from "@grpc/grpc-js";
import type { StatusObject } from "@grpc/grpc-js";
import { describe, expect, it, onTestFinished } from "vitest";
import { DataService } from "../../gen/data/v1/data_pb.ts";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { Health } from "../../gen/grpc/health/v1/health_pb.ts";
import { ServerReflection, ServerReflectionResponseSchema } from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import { quote } from "../../src/clip.ts";
import { boundError, boundMessage, maxTrailerDetailBytes } from "../../src/runtime/bounded-error.ts";
import { within } from "../support/deadline.ts";
import { envelopeOf } from "../support/envelopes.ts";
import { createRawClient } from "../support/raw-call.ts";
import type { RawAnswer, RawClient } from "../support/raw-call.ts";
import { useRawHttp3Client } from "../support/raw-http3.ts";
import { useServer } from "../support/server.ts";
import { tlsConfig, useTlsFiles } from "../support/streams.ts";

useTlsFiles();

/** Characters of a message as a client gets it, at most: 2,048, and the ellipsis. */
const longest = 2049;

/** A message of the type whose texts all are the value, down to the first member of each oneof. */
function filled(desc: DescMessage, value: string): Message {
  const message = create(desc) as Message & Record<string, unknown>;
  for (const field of desc.fields) {
    if (field.fieldKind !== "scalar" && field.fieldKind !== "message") continue;
    const isText = field.fieldKind === "scalar" && field.scalar === ScalarType.STRING;
    if (!isText && (field.fieldKind === "scalar" || field.oneof === undefined)) continue;
    if (field.oneof !== undefined) {
      const taken = message[field.oneof.localName] as { case?: string };
      if (taken.case !== undefined) continue;
    }
    const content = field.fieldKind === "message" ? filled(field.message, value) : value;
    if (field.oneof === undefined) message[field.localName] = content;
    else message[field.oneof.localName] = { case: field.localName, value: content };
  }
  return message;
}

interface GrpcAnswer {
  readonly status: StatusObject;
  readonly messages: Buffer[];
}

/** Calls with grpc-js, whose limit on headers is Node's, and gives up a stream that goes on. */
async function callGrpc(client: Client, path: string, request: Uint8Array): Promise<GrpcAnswer> {
  const metadata = new Metadata();
  metadata.set("authorization", "Bearer sample");
  const bytes = (value: Buffer): Buffer => value;
  const call = client.makeBidiStreamRequest(path, bytes, bytes, metadata);
  const messages: Buffer[] = [];
  call.on("data", (message: Buffer) => {
    messages.push(message);
    // A Watch has no end.
    if (path.endsWith("/Watch")) call.cancel();
  });
  call.on("error", () => undefined);
  call.write(Buffer.from(request));
  call.end();
  const ended = new Promise<StatusObject>((resolve) => call.on("status", resolve));
  return { status: await within(20_000, `the status of ${path}`, ended), messages };
}

function useGrpc(url: string): Client {
  const client = new Client(url.replace("http://", ""), credentials.createInsecure(), {
    "grpc.max_send_message_length": -1,
    "grpc.max_receive_message_length": -1,
  });
  onTestFinished(() => {
    client.close();
  });
  return client;
}

const services: readonly DescService[] = [GreetService, DataService, Health, ServerReflection];
const methods = services.flatMap((service) => service.methods);

function pathOf({ parent, name }: DescMethod): string {
  return `/${parent.typeName}/${name}`;
}

function expectedCode({ parent, name }: DescMethod): number {
  if (parent === ServerReflection || name === "List") return grpcStatus.OK;
  if (name === "Check") return grpcStatus.NOT_FOUND;
  if (name === "Watch") return grpcStatus.CANCELLED;
  return grpcStatus.INVALID_ARGUMENT;
}

describe.each([
  ["20 kB", 20_000],
  ["nearly 4 MiB", 4 * 1024 * 1024 - 200],
])("names of %s", (_size, length) => {
  it.each(["a", "ä", "\u{1f600}"])("of %j leave grpc-js with the failure's own code, in every RPC", async (letter) => {
    // Health and reflection, which need no token, take 64 KiB by default.
    const server = await useServer({ maxOpenMessageBytes: 4 * 1024 * 1024 });
    const client = useGrpc(server.url);
    const value = letter.repeat(Math.floor(length / Buffer.byteLength(letter)));
    for (const method of methods) {
      const request = toBinary(method.input, filled(method.input, value));
      if (request.byteLength > 4 * 1024 * 1024) continue;
      const { status, messages } = await callGrpc(client, pathOf(method), request);
      expect([method.name, status.code, status.details.slice(0, 100)]).toEqual([
        method.name,
        expectedCode(method),
        expect.any(String),
      ]);
      expect(status.details.length).toBeLessThanOrEqual(longest);
      if (method.parent !== ServerReflection) continue;
      const { messageResponse } = fromBinary(ServerReflectionResponseSchema, messages[0] ?? Buffer.alloc(0));
      if (messageResponse.case !== "errorResponse") throw new Error(`answered ${String(messageResponse.case)}`);
      expect(messageResponse.value.errorMessage.length).toBeLessThan(300);
    }
  });
});

/** A service of a user's own. */
const failing = ((): DescService => {
  const text = `.${StringValueSchema.typeName}`;
  const method = { inputType: text, outputType: text };
  const file = create(FileDescriptorProtoSchema, {
    name: "test/v1/failing.proto",
    package: "test.v1",
    syntax: "proto3",
    dependency: [file_google_protobuf_wrappers.proto.name],
    service: [
      {
        name: "FailingService",
        method: [
          { name: "Unary", ...method },
          { name: "Stream", ...method, serverStreaming: true },
        ],
      },
    ],
  });
  const set = create(FileDescriptorSetSchema, { file: [file_google_protobuf_wrappers.proto, file] });
  const service = createFileRegistry(set).getService("test.v1.FailingService");
  if (service === undefined) throw new Error("there is no such service");
  return service;
})();

/** What handlers of a user's own may fail with. */
const huge: Readonly<Record<string, () => ConnectError>> = {
  "a message of 1 MB": () => new ConnectError("m".repeat(1_000_000), Code.NotFound),
  "a message in another script": () => new ConnectError("\u4e2d\u{1f600}".repeat(30_000), Code.NotFound),
  "half of a surrogate pair": () => new ConnectError("half \ud800 of it", Code.NotFound),
  "details of 1 MB": () =>
    new ConnectError("small", Code.NotFound, undefined, [
      { desc: StringValueSchema, value: { value: "first" } },
      { desc: StringValueSchema, value: { value: "d".repeat(1_000_000) } },
      { desc: StringValueSchema, value: { value: "third" } },
    ]),
  "many details": () => {
    const detail = { desc: StringValueSchema, value: { value: "d".repeat(100) } };
    return new ConnectError(
      "small",
      Code.NotFound,
      undefined,
      Array.from({ length: 10_000 }, () => detail),
    );
  },
};

function routesThatFail(router: ConnectRouter): void {
  const fail = (name: string): never => {
    const make = huge[name];
    if (make === undefined) throw new Error(`there is no "${name}"`);
    throw make();
  };
  router.service(failing, {
    unary: ({ value }: StringValue) => fail(value),
    // eslint-disable-next-line require-yield -- it is to fail as a stream
    async *stream({ value }: StringValue) {
      fail(value);
    },
  } as unknown as Partial<ServiceImpl<DescService>>);
}

/** The code that a raw answer has, in trailers or in JSON. */
function rawCode({ status, headers, trailers, body }: RawAnswer): string {
  const inTrailers = trailers["grpc-status"] ?? headers["grpc-status"];
  if (typeof inTrailers === "string") return inTrailers;
  const text = body.toString();
  return /"code":"(\w+)"/.exec(text)?.[1] ?? `HTTP ${status}`;
}

function sizeOf(fields: Readonly<Record<string, unknown>>): number {
  return Object.entries(fields).reduce((size, [name, value]) => size + name.length + String(value).length, 0);
}

describe.each(Object.keys(huge))("a handler that fails with %s", (what) => {
  const paths = ["/test.v1.FailingService/Unary", "/test.v1.FailingService/Stream"];
  const payload = toBinary(StringValueSchema, create(StringValueSchema, { value: what }));

  it("leaves grpc-js with its code, over HTTP/2", async () => {
    const server = await useServer({}, { routes: routesThatFail });
    const client = useGrpc(server.url);
    for (const path of paths) {
      const { status } = await callGrpc(client, path, payload);
      expect([path, status.code]).toEqual([path, grpcStatus.NOT_FOUND]);
      expect(status.details.length).toBeLessThanOrEqual(longest);
      const total = sizeOf(status.metadata.toJSON()) + encodeURIComponent(status.details).length;
      // What grpc-core takes without a doubt.
      expect(total).toBeLessThan(8 * 1024);
    }
  });

  async function useRaw(door: "1.1" | "3"): Promise<RawClient> {
    const server = await useServer(door === "3" ? { ...tlsConfig(), http3: true } : {}, { routes: routesThatFail });
    if (door === "3") return useRawHttp3Client(`https://127.0.0.1:${server.http3Port ?? 0}`);
    const client = createRawClient(server.url, door);
    onTestFinished(() => {
      client.close();
    });
    return client;
  }

  it.each(["1.1", "3"] as const)("leaves Connect's clients with its code, over HTTP/%s", async (door) => {
    const client = await useRaw(door);
    for (const [i, path] of paths.entries()) {
      const answer = await client.call({
        path,
        headers: {
          "content-type": i === 0 ? "application/proto" : "application/connect+proto",
          authorization: "Bearer sample",
        },
        body: [i === 0 ? payload : envelopeOf(payload)],
      });
      expect([path, rawCode(answer), answer.complete]).toEqual([path, "not_found", true]);
      expect(sizeOf(answer.headers)).toBeLessThan(8 * 1024);
      const message = /"message":"([^"]*)"/.exec(answer.body.toString())?.[1] ?? "";
      expect(message.length).toBeLessThanOrEqual(longest);
    }
  });

  it("leaves gRPC's clients with its code, over HTTP/3", async () => {
    const client = await useRaw("3");
    for (const path of paths) {
      const answer = await client.call({
        path,
        headers: { "content-type": "application/grpc+proto", te: "trailers", authorization: "Bearer sample" },
        body: [envelopeOf(payload)],
      });
      expect([path, rawCode(answer), answer.complete]).toEqual([path, "5", true]);
      expect(sizeOf(answer.trailers)).toBeLessThan(8 * 1024);
    }
  });
});

it.each(["application/grpc+proto", "application/json"])(
  "an unknown path of 10 kB is not repeated: %s",
  async (type) => {
    const server = await useServer();
    const client = createRawClient(server.url, "2");
    onTestFinished(() => {
      client.close();
    });
    const answer = await client.call({ path: `/${"p".repeat(10_000)}`, headers: { "content-type": type }, body: [] });
    expect(["12", "unimplemented"]).toContain(rawCode(answer));
    expect(sizeOf(answer.headers) + answer.body.byteLength).toBeLessThan(1000);
  },
);

it("half of a surrogate pair in a name does not keep the failure from its client", async () => {
  const server = await useServer();
  const client = createRawClient(server.url, "2");
  onTestFinished(() => {
    client.close();
  });
  const answer = await client.call({
    path: "/grpc.health.v1.Health/Check",
    headers: { "content-type": "application/grpc+json", te: "trailers" },
    body: [envelopeOf(Buffer.from('{"service":"half \\ud800 of it"}'))],
  });
  // protobuf-es may refuse it, or the service does not know it.
  expect(["3", "5"]).toContain(rawCode(answer));
});

describe("what is cut", () => {
  it("ends between two characters", () => {
    expect(quote("short")).toBe('"short"');
    expect(quote("a".repeat(200))).toBe(`"${"a".repeat(200)}"`);
    expect(quote("a".repeat(201))).toBe(`"${"a".repeat(200)}…"`);
    expect(quote(`${"a".repeat(199)}\u{1f600}b`)).toBe(`"${"a".repeat(199)}…"`);
  });

  it("fits a header in its encoded form, and is no shorter than it must be", () => {
    for (const [text, kept] of [
      ["a".repeat(5000), 2039],
      ["ä".repeat(5000), 339],
      ["\u{1f600}".repeat(5000), 169 * 2],
      [" ".repeat(5000), 679],
    ] as const) {
      const bound = boundMessage(text);
      expect([bound.length, bound.endsWith("…")]).toEqual([kept + 1, true]);
      expect(encodeURIComponent(bound).length).toBeLessThanOrEqual(2048);
      expect(text.startsWith(bound.slice(0, -1))).toBe(true);
    }
    for (const whole of ["", "a".repeat(2048), "ä".repeat(341), "\u4e2d".repeat(227)]) {
      expect(boundMessage(whole)).toBe(whole);
    }
  });

  it("is a copy that keeps the code, the metadata and the cause", () => {
    const cause = new Error("cause");
    const error = new ConnectError("m".repeat(10_000), Code.Aborted, { "x-more": "1" }, undefined, cause);
    const bound = boundError(error, maxTrailerDetailBytes);
    expect([bound.code, bound.metadata.get("x-more"), bound.cause]).toEqual([Code.Aborted, "1", cause]);
    const small = new ConnectError("small", Code.Aborted);
    expect(boundError(small, maxTrailerDetailBytes)).toBe(small);
  });
});
