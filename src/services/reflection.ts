import { create, createRegistry, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { DescFile, Registry, MessageInitShape } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import type { ConnectRouter } from "@connectrpc/connect";
import {
  ServerReflection,
  ServerReflectionRequestSchema,
  ServerReflectionResponseSchema,
} from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import type { ServerReflectionRequest, ServerReflectionResponse } from "../../gen/grpc/reflection/v1/reflection_pb.ts";
// Deprecated, as the whole of v1alpha is; grpcurl and others still ask for it first.
/* eslint-disable @typescript-eslint/no-deprecated */
import {
  ServerReflection as ServerReflectionV1alpha,
  ServerReflectionRequestSchema as RequestV1alphaSchema,
  ServerReflectionResponseSchema as ResponseV1alphaSchema,
} from "../../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import type { ServerReflectionRequest as RequestV1alpha } from "../../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { clip } from "../clip.ts";
import { indexSymbols } from "./reflection-symbols.ts";

type Answer = NonNullable<MessageInitShape<typeof ServerReflectionResponseSchema>["messageResponse"]>;

/**
 * Adds server reflection, v1 and v1alpha, for itself and for every service that
 * the router has by now
 * (https://github.com/grpc/grpc/blob/master/doc/server-reflection.md).
 */
export function registerReflection(router: ConnectRouter): void {
  const services = new Map<string, DescFile>([
    [ServerReflection.typeName, ServerReflection.file],
    [ServerReflectionV1alpha.typeName, ServerReflectionV1alpha.file],
  ]);
  for (const handler of router.handlers) services.set(handler.service.typeName, handler.service.file);

  const byName = new Map<string, DescFile>();
  for (const file of services.values()) {
    for (const each of [...dependenciesOf(file), file]) byName.set(each.proto.name, each);
  }
  const registry = createRegistry(...byName.values());
  const bySymbol = indexSymbols(byName.values());
  // What a request may ask for is made once: its cost does not grow with the definitions.
  const serviceNames = [...services.keys()].sort().map((name) => ({ name }));
  const encoded = new Map<DescFile, EncodedFile[]>();
  const bytesOf = new Map([...byName.values()].map((file) => [file, toBinary(FileDescriptorProtoSchema, file.proto)]));
  const encode = (file: DescFile): EncodedFile => ({ name: file.name, bytes: bytesOf.get(file) ?? new Uint8Array() });
  for (const file of byName.values()) encoded.set(file, [...dependenciesOf(file), file].map(encode));
  const extensions = extensionsOf(registry);

  function answer({ messageRequest: asked }: ServerReflectionRequest, sent: Set<string>): Answer {
    switch (asked.case) {
      case "listServices":
        return {
          case: "listServicesResponse",
          value: { service: serviceNames },
        };
      case "fileByFilename":
        return files(encoded, byName.get(asked.value), `file ${asked.value}`, sent);
      case "fileContainingSymbol":
        return files(encoded, bySymbol.get(asked.value.replace(/^\./, "")), `symbol ${asked.value}`, sent);
      case "fileContainingExtension": {
        const { containingType, extensionNumber } = asked.value;
        const message = registry.getMessage(containingType);
        const extension = message && registry.getExtensionFor(message, extensionNumber);
        return files(encoded, extension?.file, `extension ${extensionNumber} of ${containingType}`, sent);
      }
      case "allExtensionNumbersOfType": {
        const message = registry.getMessage(asked.value);
        if (message === undefined) return failure(Code.NotFound, `message ${asked.value}`);
        const extensionNumber = extensions.get(message.typeName) ?? [];
        return { case: "allExtensionNumbersResponse", value: { baseTypeName: message.typeName, extensionNumber } };
      }
      case undefined:
        return { case: "errorResponse", value: { errorCode: Code.InvalidArgument, errorMessage: "nothing was asked" } };
    }
  }

  async function* answers(requests: AsyncIterable<ServerReflectionRequest>): AsyncGenerator<ServerReflectionResponse> {
    // What the client has by now is not sent again on this call.
    const sent = new Set<string>();
    for await (const request of requests) {
      yield create(ServerReflectionResponseSchema, {
        validHost: request.host,
        originalRequest: request,
        messageResponse: answer(request, sent),
      });
    }
  }

  router.service(ServerReflection, { serverReflectionInfo: answers });
  // The two versions differ in their package only, so that one's bytes are the other's.
  router.service(ServerReflectionV1alpha, {
    async *serverReflectionInfo(requests) {
      for await (const response of answers(toV1(requests))) {
        yield fromBinary(ResponseV1alphaSchema, toBinary(ServerReflectionResponseSchema, response));
      }
    },
  });
}

async function* toV1(requests: AsyncIterable<RequestV1alpha>): AsyncGenerator<ServerReflectionRequest> {
  for await (const request of requests) {
    yield fromBinary(ServerReflectionRequestSchema, toBinary(RequestV1alphaSchema, request));
  }
}

interface EncodedFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** The file and those it needs, before it, unless they have been sent. */
function files(
  encoded: ReadonlyMap<DescFile, readonly EncodedFile[]>,
  file: DescFile | undefined,
  what: string,
  sent: Set<string>,
): Answer {
  if (file === undefined) return failure(Code.NotFound, what);
  // The file that was asked for is always sent: the client may have lost it.
  sent.delete(file.name);
  const needed = (encoded.get(file) ?? []).filter(({ name }) => !sent.has(name));
  for (const { name } of needed) sent.add(name);
  return { case: "fileDescriptorResponse", value: { fileDescriptorProto: needed.map(({ bytes }) => bytes) } };
}

function failure(errorCode: Code, what: string): Answer {
  return { case: "errorResponse", value: { errorCode, errorMessage: `there is no ${clip(what)} here` } };
}

/** What the file imports, directly or not, each before those that need it. */
function dependenciesOf(file: DescFile, seen: Set<DescFile> = new Set()): DescFile[] {
  return file.dependencies.flatMap((dependency) => {
    if (seen.has(dependency)) return [];
    seen.add(dependency);
    return [...dependenciesOf(dependency, seen), dependency];
  });
}

/** The numbers of the extensions of each message, by its name. */
function extensionsOf(registry: Registry): ReadonlyMap<string, number[]> {
  const numbers = new Map<string, number[]>();
  for (const desc of registry) {
    if (desc.kind !== "extension") continue;
    const { typeName } = desc.extendee;
    numbers.set(
      typeName,
      [...(numbers.get(typeName) ?? []), desc.number].sort((a, b) => a - b),
    );
  }
  return numbers;
}
