import type { DescMethod } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import * as connect from "@connectrpc/connect/protocol-connect";
import * as grpc from "@connectrpc/connect/protocol-grpc";
import * as grpcWeb from "@connectrpc/connect/protocol-grpc-web";

export interface RequestHeaderOptions {
  readonly method: DescMethod;
  readonly binary: boolean;
  readonly timeoutMs: number | undefined;
  readonly header: HeadersInit | undefined;
  readonly acceptCompression: Compression[];
  readonly sendCompression: Compression | null;
}

/** How a response is to be read, once its head has been found good. */
export interface ResponseReading {
  readonly compression: Compression | null;
  /** The envelope that ends it, in protocols that have one. `take` may throw what the call has failed with. */
  readonly end?: { readonly flag: number; readonly take: (payload: Uint8Array) => void };
  /** Throws if the body may not end like this; gets the HTTP trailers. */
  readonly complete: (httpTrailer: Headers) => void;
  /** Filled by `take` or `complete`. */
  readonly trailer: Headers;
}

/** What a protocol settles for a streaming call on the client, besides the envelopes that all share. */
export interface ClientStreamProtocol {
  readonly requestHeader: (options: RequestHeaderOptions) => Headers;
  /** Throws if the head is a failure. */
  readonly readResponse: (
    method: DescMethod,
    acceptCompression: Compression[],
    binary: boolean,
    status: number,
    header: Headers,
  ) => ResponseReading;
}

const endStream = connect.createEndStreamSerialization(undefined);

const connectStreams: ClientStreamProtocol = {
  requestHeader: ({ method, binary, timeoutMs, header, acceptCompression, sendCompression }) =>
    connect.requestHeaderWithCompression(
      method.methodKind,
      binary,
      timeoutMs,
      header,
      acceptCompression,
      sendCompression,
      true,
    ),
  readResponse(method, acceptCompression, binary, status, header) {
    const { compression } = connect.validateResponseWithCompression(
      method.methodKind,
      acceptCompression,
      binary,
      status,
      header,
    );
    const trailer = new Headers();
    let ended = false;
    return {
      compression: compression ?? null,
      trailer,
      end: {
        flag: connect.endStreamFlag,
        take(payload) {
          if (ended) {
            throw new ConnectError("protocol error: received extra EndStreamResponse", Code.InvalidArgument);
          }
          ended = true;
          const { metadata, error } = endStream.parse(payload);
          if (error !== undefined) {
            for (const [name, value] of header) error.metadata.append(name, value);
            throw error;
          }
          for (const [name, value] of metadata) trailer.append(name, value);
        },
      },
      complete() {
        if (!ended) throw new ConnectError("protocol error: missing EndStreamResponse", Code.Internal);
      },
    };
  },
};

const grpcStreams: ClientStreamProtocol = {
  requestHeader: ({ binary, timeoutMs, header, acceptCompression, sendCompression }) =>
    grpc.requestHeaderWithCompression(binary, timeoutMs, header, acceptCompression, sendCompression),
  readResponse(_method, acceptCompression, _binary, status, header) {
    const { compression, foundStatus, headerError } = grpc.validateResponseWithCompression(
      acceptCompression,
      status,
      header,
    );
    if (headerError !== undefined) throw headerError;
    const trailer = new Headers();
    return {
      compression: compression ?? null,
      trailer,
      complete(httpTrailer) {
        for (const [name, value] of httpTrailer) trailer.append(name, value);
        if (!foundStatus) grpc.validateTrailer(httpTrailer, header);
      },
    };
  },
};

const grpcWebStreams: ClientStreamProtocol = {
  requestHeader: ({ binary, timeoutMs, header, acceptCompression, sendCompression }) =>
    grpcWeb.requestHeaderWithCompression(binary, timeoutMs, header, acceptCompression, sendCompression, true),
  readResponse(_method, acceptCompression, _binary, status, header) {
    const { compression, foundStatus, headerError } = grpcWeb.validateResponseWithCompression(
      acceptCompression,
      status,
      header,
    );
    if (headerError !== undefined) throw headerError;
    const trailer = new Headers();
    let ended = false;
    return {
      compression: compression ?? null,
      trailer,
      end: {
        flag: grpcWeb.trailerFlag,
        take(payload) {
          if (ended) throw new ConnectError("protocol error: received extra trailer", Code.InvalidArgument);
          ended = true;
          const received = grpcWeb.trailerParse(payload);
          grpcWeb.validateTrailer(received, header);
          for (const [name, value] of received) trailer.append(name, value);
        },
      },
      complete() {
        // With the status among the headers there is neither a body nor a trailer.
        if (!ended && !foundStatus) throw new ConnectError("protocol error: missing trailer", Code.Internal);
      },
    };
  },
};

export const clientStreamProtocols = {
  connect: connectStreams,
  grpc: grpcStreams,
  "grpc-web": grpcWebStreams,
} as const;
