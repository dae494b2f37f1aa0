/** Between the suite's messages and Connect's values. */
import { create, createRegistry } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import type { Any } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  ErrorSchema,
  HeaderSchema,
  file_connectrpc_conformance_v1_service,
} from "./gen/connectrpc/conformance/v1/service_pb.ts";
import type { Error as WireError, Header } from "./gen/connectrpc/conformance/v1/service_pb.ts";

/** What an Any may hold: JSON names its type. */
export const registry = createRegistry(file_connectrpc_conformance_v1_service);

const typeUrlPrefix = "type.googleapis.com/";

export function appendHeaders(target: Headers, headers: readonly Header[]): void {
  for (const { name, value } of headers) {
    for (const one of value) target.append(name, one);
  }
}

/** Several values of one name come joined with commas; the suite takes them so. */
export function toWireHeaders(headers: Iterable<[string, string]>): Header[] {
  return [...headers].map(([name, value]) => create(HeaderSchema, { name, value: [value] }));
}

/** The error that the suite asks for, with further details. */
export function toConnectError(error: WireError, ...details: readonly Any[]): ConnectError {
  const result = new ConnectError(error.message ?? "", toCode(error.code));
  result.details = [...error.details, ...details].map(({ typeUrl, value }) => ({
    type: typeUrl.slice(typeUrl.lastIndexOf("/") + 1),
    value,
  }));
  return result;
}

export function toWireError(error: ConnectError): WireError {
  return create(ErrorSchema, {
    code: error.code,
    message: error.rawMessage,
    details: error.details.flatMap((detail) =>
      "desc" in detail ? [] : [{ typeUrl: typeUrlPrefix + detail.type, value: detail.value }],
    ),
  });
}

/** The suite's codes have Connect's numbers (https://connectrpc.com/docs/protocol#error-codes). */
const codes = new Map<number, Code>(
  Object.values(Code)
    .filter((code) => typeof code === "number")
    .map((code) => [code, code]),
);

function toCode(number: number): Code {
  const code = codes.get(number);
  if (code === undefined) throw new TypeError(`the suite asks for an error with the unknown code ${number}`);
  return code;
}

/** The message in an Any, which must be of the suite's service. */
export function unpack(any: Any) {
  const message = anyUnpack(any, registry);
  if (message === undefined) throw new TypeError(`${any.typeUrl} is none of the suite's messages`);
  return message;
}
