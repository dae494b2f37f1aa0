import { Code, ConnectError } from "@connectrpc/connect";
import { constants } from "node:http2";

/** The response may be whole although the request could not be sent to its end. */
export function isLateWrite(error: Error): boolean {
  return (error as NodeJS.ErrnoException).code === "ERR_STREAM_WRITE_AFTER_END";
}

/** What an error of Node's means for a call. */
export function errorOfNode(error: Error): ConnectError {
  const reset = /^Stream closed with error code NGHTTP2_(\w+)$/.exec(error.message)?.[1];
  if (reset !== undefined) {
    const code = (constants as unknown as Record<string, number | undefined>)[`NGHTTP2_${reset}`];
    const byReset = code === undefined ? undefined : errorOfReset(code);
    if (byReset !== undefined) return byReset;
  }
  switch ((error as NodeJS.ErrnoException).code) {
    case "ERR_STREAM_DESTROYED":
    case "ERR_HTTP2_INVALID_STREAM":
    case "ERR_HTTP2_STREAM_CANCEL":
    case "ECONNRESET":
    case "EPIPE":
      return wrap(error, Code.Aborted);
    case "ETIMEDOUT":
    case "ENOTFOUND":
    case "EAI_AGAIN":
    case "ECONNREFUSED":
    case "ERR_HTTP2_GOAWAY_SESSION":
      return wrap(error, Code.Unavailable);
    default:
      return wrap(error, Code.Internal);
  }
}

function wrap(error: Error, code: Code): ConnectError {
  if (error instanceof ConnectError) return error;
  // A connection that is given up takes the reason with it.
  if (error.cause instanceof ConnectError) return error.cause;
  return new ConnectError(error.message, code, undefined, undefined, error);
}

/** gRPC's mapping (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#errors), which Connect follows. */
const codesOfReset: Readonly<Record<number, Code>> = {
  [constants.NGHTTP2_PROTOCOL_ERROR]: Code.Internal,
  [constants.NGHTTP2_INTERNAL_ERROR]: Code.Internal,
  [constants.NGHTTP2_FLOW_CONTROL_ERROR]: Code.Internal,
  [constants.NGHTTP2_SETTINGS_TIMEOUT]: Code.Internal,
  [constants.NGHTTP2_FRAME_SIZE_ERROR]: Code.Internal,
  [constants.NGHTTP2_REFUSED_STREAM]: Code.Unavailable,
  [constants.NGHTTP2_CANCEL]: Code.Canceled,
  [constants.NGHTTP2_COMPRESSION_ERROR]: Code.Internal,
  [constants.NGHTTP2_CONNECT_ERROR]: Code.Internal,
  [constants.NGHTTP2_ENHANCE_YOUR_CALM]: Code.ResourceExhausted,
  [constants.NGHTTP2_INADEQUATE_SECURITY]: Code.PermissionDenied,
  [constants.NGHTTP2_HTTP_1_1_REQUIRED]: Code.PermissionDenied,
};

/** What the code of an RST_STREAM means for a call; undefined if it is no failure. */
export function errorOfReset(rstCode: number | undefined): ConnectError | undefined {
  const code = rstCode === undefined ? undefined : codesOfReset[rstCode];
  if (rstCode === undefined || code === undefined) return undefined;
  return new ConnectError(`the HTTP/2 stream was reset with error code 0x${rstCode.toString(16)}`, code);
}
