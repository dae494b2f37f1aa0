import { create, toBinary } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";

/**
 * Bytes of an error's message as it stands in a header, at most: gRPC encodes a
 * byte that is not plain as three. grpc-core refuses metadata of more than 8 KiB
 * now and then, and of more than 16 KiB always; the message stands in
 * `grpc-status-details-bin` once more, as base64.
 */
const maxMessageBytes = 2048;

/** Bytes of an error's details in gRPC's trailers, at most, before base64. */
export const maxTrailerDetailBytes = 2048;

/** What encodeURIComponent leaves as it is. */
const plain = /[A-Za-z0-9\-_.!~*'()]/;

/** The longest part of a message that no encoding makes too long: three bytes a code unit, each as three. */
const alwaysShort = Math.floor(maxMessageBytes / 9);

/**
 * The error as it may leave: with a message that is cut if it is too long for a
 * header, and, of its details in their order, those that fit. Longer ones would
 * not arrive as what they are, but as the client's own failure to read them.
 */
export function boundError(error: ConnectError, maxDetailBytes = Infinity): ConnectError {
  const message = boundMessage(error.rawMessage);
  const details = maxDetailBytes === Infinity ? error.details : boundDetails(error.details, maxDetailBytes);
  if (message === error.rawMessage && details.length === error.details.length) return error;
  const bounded = new ConnectError(message, error.code, error.metadata, undefined, error.cause ?? error);
  bounded.details = details;
  bounded.isWireError = error.isWireError;
  return bounded;
}

/** The message, cut between two characters, and without halves of surrogate pairs: they have no form in a header. */
export function boundMessage(message: string): string {
  if (message.length <= alwaysShort) return message.toWellFormed();
  const ellipsis = "…";
  let bytes = 0;
  let end = 0;
  const whole = message.toWellFormed();
  for (const character of whole) {
    bytes += plain.test(character) ? 1 : 3 * Buffer.byteLength(character);
    if (bytes > maxMessageBytes) return whole.slice(0, end) + ellipsis;
    // With the ellipsis it must still fit.
    if (bytes <= maxMessageBytes - 3 * Buffer.byteLength(ellipsis)) end += character.length;
  }
  return whole;
}

function boundDetails(details: ConnectError["details"], maxBytes: number): ConnectError["details"] {
  let left = maxBytes;
  return details.filter((detail) => {
    const [type, size] =
      "desc" in detail
        ? [detail.desc.typeName, toBinary(detail.desc, create(detail.desc, detail.value)).byteLength]
        : [detail.type, detail.value.byteLength];
    if (type.length + size > left) return false;
    left -= type.length + size;
    return true;
  });
}
