import { Code, ConnectError } from "@connectrpc/connect";
import * as connect from "@connectrpc/connect/protocol-connect";
import * as grpc from "@connectrpc/connect/protocol-grpc";
import * as grpcWeb from "@connectrpc/connect/protocol-grpc-web";
import { maxTrailerDetailBytes } from "./bounded-error.ts";
import type { Call } from "./call.ts";

/** How a response ends: with one more envelope, or with HTTP trailers. */
export interface ResponseEnd {
  readonly envelope?: { readonly flags: number; readonly payload: Uint8Array };
  readonly trailer?: Headers;
}

/** What a protocol settles for a call on the server, besides the envelopes that all share. */
export interface EnvelopedProtocol {
  readonly name: "connect" | "grpc" | "grpc-web";
  /** Whether the codec is binary; undefined if the content type is not one of this protocol's for streams. */
  readonly isBinary: (contentType: string | null) => boolean | undefined;
  readonly contentType: (binary: boolean) => string;
  readonly timeoutHeader: string;
  readonly parseTimeout: typeof connect.parseTimeout;
  readonly encodingHeader: string;
  readonly acceptEncodingHeader: string;
  /** Refuses envelopes that end a response; undefined if the protocol has none. */
  readonly requestEnd: { readonly flag: number; readonly take: () => void } | undefined;
  /** What `HandlerContext.responseTrailer` holds at first. */
  readonly trailer: Readonly<Record<string, string>>;
  readonly end: (trailer: Headers, error: ConnectError | undefined) => ResponseEnd;
  /** Bytes of an error's details, at most: HTTP trailers are limited, and a body is not. */
  readonly maxDetailBytes: number;
}

const endStream = connect.createEndStreamSerialization(undefined);
const grpcWebTrailer = grpcWeb.createTrailerSerialization();

const connectFraming: EnvelopedProtocol = {
  name: "connect",
  isBinary(contentType) {
    const type = connect.parseContentType(contentType);
    return type?.stream === true ? type.binary : undefined;
  },
  contentType: (binary) => (binary ? connect.contentTypeStreamProto : connect.contentTypeStreamJson),
  timeoutHeader: connect.headerTimeout,
  parseTimeout: connect.parseTimeout,
  encodingHeader: connect.headerStreamEncoding,
  acceptEncodingHeader: connect.headerStreamAcceptEncoding,
  requestEnd: { flag: connect.endStreamFlag, take: refuseEnd },
  trailer: {},
  end: (metadata, error) => ({
    envelope: {
      flags: connect.endStreamFlag,
      payload: endStream.serialize(error === undefined ? { metadata } : { metadata, error }),
    },
  }),
  maxDetailBytes: Infinity,
};

const grpcFraming: EnvelopedProtocol = {
  name: "grpc",
  isBinary: (contentType) => grpc.parseContentType(contentType)?.binary,
  contentType: (binary) => (binary ? grpc.contentTypeProto : grpc.contentTypeJson),
  timeoutHeader: grpc.headerTimeout,
  parseTimeout: grpc.parseTimeout,
  encodingHeader: grpc.headerEncoding,
  acceptEncodingHeader: grpc.headerAcceptEncoding,
  requestEnd: undefined,
  trailer: { [grpc.headerGrpcStatus]: grpc.grpcStatusOk },
  end: (trailer, error) => ({ trailer: error === undefined ? trailer : grpc.setTrailerStatus(trailer, error) }),
  maxDetailBytes: maxTrailerDetailBytes,
};

const grpcWebFraming: EnvelopedProtocol = {
  name: "grpc-web",
  isBinary(contentType) {
    const type = grpcWeb.parseContentType(contentType);
    // Of the text variant, which is base64, Connect makes nothing either.
    return type === undefined || type.text ? undefined : type.binary;
  },
  contentType: (binary) => (binary ? grpcWeb.contentTypeProto : grpcWeb.contentTypeJson),
  timeoutHeader: grpcWeb.headerTimeout,
  parseTimeout: grpcWeb.parseTimeout,
  encodingHeader: grpcWeb.headerEncoding,
  acceptEncodingHeader: grpcWeb.headerAcceptEncoding,
  requestEnd: { flag: grpcWeb.trailerFlag, take: refuseEnd },
  trailer: { [grpcWeb.headerGrpcStatus]: grpcWeb.grpcStatusOk },
  end: (trailer, error) => ({
    envelope: {
      flags: grpcWeb.trailerFlag,
      payload: grpcWebTrailer.serialize(error === undefined ? trailer : grpcWeb.setTrailerStatus(trailer, error)),
    },
  }),
  maxDetailBytes: Infinity,
};

/** The protocol of a request, and its codec, if its messages are in envelopes. */
export function framingOf(
  contentType: string | null,
  shape: Call["shape"],
): { readonly protocol: EnvelopedProtocol; readonly binary: boolean } | undefined {
  for (const protocol of [grpcFraming, grpcWebFraming, connectFraming]) {
    // Connect's unary calls have content types of their own.
    if (shape === "unary" && protocol === connectFraming) continue;
    const binary = protocol.isBinary(contentType);
    if (binary !== undefined) return { protocol, binary };
  }
  return undefined;
}

function refuseEnd(): never {
  throw new ConnectError("unexpected end flag", Code.InvalidArgument);
}
