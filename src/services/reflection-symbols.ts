import type { DescFile } from "@bufbuild/protobuf";
import type { DescriptorProto, EnumDescriptorProto } from "@bufbuild/protobuf/wkt";

/**
 * The file of each symbol by its full name: services and methods, messages
 * (those of map entries too), fields and oneofs, enums and values, extensions.
 */
export function indexSymbols(files: Iterable<DescFile>): ReadonlyMap<string, DescFile> {
  const index = new Map<string, DescFile>();
  for (const file of files) {
    for (const name of symbolsOf(file)) index.set(name, file);
  }
  return index;
}

function* symbolsOf({ proto }: DescFile): Generator<string> {
  const within = (name: string): string => join(proto.package, name);
  for (const service of proto.service) {
    yield within(service.name);
    for (const method of service.method) yield join(within(service.name), method.name);
  }
  for (const message of proto.messageType) yield* symbolsOfMessage(proto.package, message);
  for (const each of proto.enumType) yield* symbolsOfEnum(proto.package, each);
  for (const extension of proto.extension) yield within(extension.name);
}

function* symbolsOfMessage(scope: string, message: DescriptorProto): Generator<string> {
  const name = join(scope, message.name);
  yield name;
  for (const { name: member } of [...message.field, ...message.oneofDecl, ...message.extension]) {
    yield join(name, member);
  }
  for (const nested of message.nestedType) yield* symbolsOfMessage(name, nested);
  for (const each of message.enumType) yield* symbolsOfEnum(name, each);
}

function* symbolsOfEnum(scope: string, { name, value }: EnumDescriptorProto): Generator<string> {
  yield join(scope, name);
  for (const { name: member } of value) {
    // An enum's values are siblings of it, as in C++ (descriptor.proto, EnumValueDescriptorProto).
    yield join(scope, member);
    // Not a full name, but what one would expect, and it cannot mean anything else.
    yield join(join(scope, name), member);
  }
}

function join(scope: string, name: string): string {
  return scope === "" ? name : `${scope}.${name}`;
}
