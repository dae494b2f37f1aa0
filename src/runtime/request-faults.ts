import type { DescMessage } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Compression, MethodSerializationLookup } from "@connectrpc/connect/protocol";

/**
 * What is wrong with a request that cannot be read is its sender's fault, also
 * where Connect, whose functions read responses too, calls it INTERNAL: data that
 * breaks off, messages that lie too deep in each other, bytes that are none of
 * protobuf's.
 */
export function toRequestFault(error: unknown): ConnectError {
  const fault = ConnectError.from(error, Code.InvalidArgument);
  if (fault.code !== Code.Internal) return fault;
  return new ConnectError(fault.rawMessage, Code.InvalidArgument, undefined, undefined, fault.cause ?? fault);
}

/** The compression, for requests: data that cannot be decompressed is INVALID_ARGUMENT. */
export function forRequests(compression: Compression): Compression {
  return {
    name: compression.name,
    compress: (bytes) => compression.compress(bytes),
    async decompress(bytes, readMaxBytes) {
      try {
        return await compression.decompress(bytes, readMaxBytes);
      } catch (error) {
        throw toRequestFault(error);
      }
    },
  };
}

/** The codec of a method, for a server: a request that cannot be parsed is INVALID_ARGUMENT. */
export function withRequestFaults(
  codec: MethodSerializationLookup<DescMessage, DescMessage>,
): MethodSerializationLookup<DescMessage, DescMessage> {
  return {
    getI(binary) {
      const input = codec.getI(binary);
      return {
        serialize: (message) => input.serialize(message),
        parse(bytes) {
          try {
            return input.parse(bytes);
          } catch (error) {
            throw toRequestFault(error);
          }
        },
      };
    },
    getO: (binary) => codec.getO(binary),
  };
}
