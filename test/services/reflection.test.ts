import { create, createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import type { FileDescriptorProto } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ServerReflection } from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import type {
  ServerReflectionRequestSchema,
  ServerReflectionResponse,
} from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as ServerReflectionV1alpha } from "../../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import type { Server } from "../../src/compose.ts";
import { Taker, collect, h2c, requests, useClient } from "../support/calls.ts";
import { startServer } from "../support/server.ts";

type Asked =
  | { case: "listServices" | "fileByFilename" | "fileContainingSymbol" | "allExtensionNumbersOfType"; value: string }
  | { case: "fileContainingExtension"; value: { containingType: string; extensionNumber: number } };
type Answer = ServerReflectionResponse["messageResponse"];

let server: Server;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server.close());

const versions = {
  v1: (questions: Asked[]) =>
    useClient(ServerReflection, server.url).serverReflectionInfo(
      requests(...questions.map((messageRequest) => ({ host: "h", messageRequest }))).ended(),
    ),
  v1alpha: (questions: Asked[]) =>
    // eslint-disable-next-line @typescript-eslint/no-deprecated -- as the whole of v1alpha is
    useClient(ServerReflectionV1alpha, server.url).serverReflectionInfo(
      requests(...questions.map((messageRequest) => ({ host: "h", messageRequest }))).ended(),
    ),
};

function filesOf(answer: Answer | undefined): FileDescriptorProto[] {
  if (answer?.case !== "fileDescriptorResponse") throw new Error(`not files: ${JSON.stringify(answer?.value)}`);
  return answer.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
}

for (const [version, call] of Object.entries(versions)) {
  describe(`reflection ${version}`, () => {
    async function ask(...questions: Asked[]): Promise<Answer[]> {
      const answers = await collect<{
        validHost: string;
        originalRequest?: object | undefined;
        messageResponse: unknown;
      }>(call(questions));
      expect(answers.length).toBe(questions.length);
      for (const [i, { validHost, originalRequest }] of answers.entries()) {
        expect(validHost).toBe("h");
        expect(originalRequest).toMatchObject({ messageRequest: { case: questions[i]?.case } });
      }
      return answers.map(({ messageResponse }) => messageResponse as Answer);
    }

    async function servicesOf(): Promise<string[]> {
      const [answer] = await ask({ case: "listServices", value: "*" });
      if (answer?.case !== "listServicesResponse") throw new Error("not a list of services");
      return answer.value.service.map(({ name }) => name);
    }

    it("lists every service", async () => {
      expect(await servicesOf()).toEqual([
        "data.v1.DataService",
        "greet.v1.GreetService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
      ]);
    });

    it("gives, for each service, files that a client can build its types from, each before those that need it", async () => {
      for (const service of await servicesOf()) {
        const [answer] = await ask({ case: "fileContainingSymbol", value: service });
        const files = filesOf(answer);
        const seen = new Set<string>();
        for (const file of files) {
          for (const dependency of file.dependency) expect(seen, `${file.name} needs it`).toContain(dependency);
          seen.add(file.name);
        }
        expect(seen.size).toBe(files.length);
        const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: files }));
        const methods = registry.getService(service)?.methods ?? [];
        expect(methods.length).toBeGreaterThan(0);
        for (const { input, output } of methods) {
          expect(registry.getMessage(input.typeName)).toBeDefined();
          expect(registry.getMessage(output.typeName)).toBeDefined();
        }
      }
    });

    it("finds files by their names", async () => {
      for (const name of ["data/v1/data.proto", "buf/validate/validate.proto", "google/protobuf/duration.proto"]) {
        const [answer] = await ask({ case: "fileByFilename", value: name });
        expect(filesOf(answer).at(-1)?.name).toBe(name);
      }
    });

    it("finds the file of a service, method, message, nested message, field, oneof, enum and value", async () => {
      const data = "data/v1/data.proto";
      for (const [symbol, file] of [
        ["data.v1.DataService", data],
        [".data.v1.DataService", data],
        ["data.v1.DataService.Read", data],
        ["data.v1.ReadRequest", data],
        ["data.v1.ReadRequest.heartbeat_interval", data],
        ["data.v1.ReadRequest.from", data],
        ["data.v1.ExchangeRequest.Open", data],
        ["data.v1.ExchangeRequest.Open.stream", data],
        ["data.v1.Record.HeadersEntry", data],
        ["data.v1.Durability", data],
        // The full name of an enum's value is a sibling of the enum, as in C++ (descriptor.proto).
        ["data.v1.DURABILITY_DISK", data],
        ["data.v1.DataError.Reason", data],
        ["data.v1.DataError.REASON_STREAM_NOT_FOUND", data],
        ["data.v1.Durability.DURABILITY_DISK", data],
        ["greet.v1.GreetRequest", "greet/v1/greet.proto"],
        ["google.protobuf.Duration", "google/protobuf/duration.proto"],
        ["buf.validate.field", "buf/validate/validate.proto"],
      ] as const) {
        const [answer] = await ask({ case: "fileContainingSymbol", value: symbol });
        expect(answer?.case, symbol).toBe("fileDescriptorResponse");
        expect(filesOf(answer).at(-1)?.name, symbol).toBe(file);
      }
    });

    it("finds extensions by number, and all numbers of a message", async () => {
      const containingType = "google.protobuf.FieldOptions";
      const [file, numbers, none] = await ask(
        { case: "fileContainingExtension", value: { containingType, extensionNumber: 1159 } },
        { case: "allExtensionNumbersOfType", value: containingType },
        { case: "allExtensionNumbersOfType", value: "data.v1.Record" },
      );
      expect(filesOf(file).at(-1)?.name).toBe("buf/validate/validate.proto");
      expect(numbers?.value).toMatchObject({ baseTypeName: containingType, extensionNumber: [1159, 1160] });
      expect(none?.value).toMatchObject({ baseTypeName: "data.v1.Record", extensionNumber: [] });
    });

    it("answers what it does not know with NOT_FOUND, and goes on", async () => {
      const unknown: Asked[] = [
        { case: "fileByFilename", value: "no/such.proto" },
        { case: "fileByFilename", value: "" },
        { case: "fileContainingSymbol", value: "no.such.Symbol" },
        { case: "fileContainingSymbol", value: "data.v1.DataService.Nope" },
        { case: "fileContainingSymbol", value: "nodots" },
        { case: "fileContainingSymbol", value: "" },
        { case: "fileContainingSymbol", value: "data.v1.ReadRequest.toString" },
        { case: "fileContainingExtension", value: { containingType: "no.Such", extensionNumber: 1 } },
        { case: "fileContainingExtension", value: { containingType: "data.v1.Record", extensionNumber: -1 } },
        { case: "allExtensionNumbersOfType", value: "no.Such" },
        { case: "allExtensionNumbersOfType", value: "data.v1.DataService" },
      ];
      const answers = await ask(...unknown, { case: "listServices", value: "" });
      for (const [i, answer] of answers.slice(0, -1).entries()) {
        expect(answer.case, JSON.stringify(unknown[i])).toBe("errorResponse");
        expect(answer.value).toMatchObject({ errorCode: Code.NotFound });
      }
      expect(answers.at(-1)?.case).toBe("listServicesResponse");
    });

    it("does not send a file again on the same call, except the one that was asked for", async () => {
      const question: Asked = { case: "fileContainingSymbol", value: "data.v1.DataService" };
      const [first, second] = await ask(question, question);
      expect(filesOf(first).length).toBeGreaterThan(1);
      expect(filesOf(second).map(({ name }) => name)).toEqual(["data/v1/data.proto"]);
    });
  });
}

it("answers a question before the next is asked, and one that asks nothing with INVALID_ARGUMENT", async () => {
  const questions = requests<MessageInitShape<typeof ServerReflectionRequestSchema>>({});
  const answers = new Taker(useClient(ServerReflection, server.url, h2c.connect).serverReflectionInfo(questions));
  expect((await answers.take()).messageResponse).toMatchObject({
    case: "errorResponse",
    value: { errorCode: Code.InvalidArgument },
  });
  await questions.push({ messageRequest: { case: "listServices", value: "" } });
  expect((await answers.take()).messageResponse.case).toBe("listServicesResponse");
  questions.end();
  expect(await answers.rest()).toEqual([]);
});
