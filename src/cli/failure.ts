import { Code, ConnectError } from "@connectrpc/connect";
import { DataError_Reason } from "../../gen/data/v1/data_pb.ts";
import { dataErrorOf, isBroken } from "../client/index.ts";
import { isDomainError, isPortInUse } from "../errors.ts";
import type { DomainError } from "../errors.ts";
import { exitOfCode } from "./exit-codes.ts";
import type { ExitName } from "./exit-codes.ts";

/** A failure with a sentence for the user: what was wrong, and what would be right. */
export class CliError extends Error {
  readonly exit: ExitName;

  constructor(exit: ExitName, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "CliError";
    this.exit = exit;
  }
}

/** A failure as it is shown. */
export interface Failure {
  readonly message: string;
  readonly exit: ExitName;
  /** The RPC code, such as `not_found`, if a call failed. */
  readonly code?: string;
}

/** Turns whatever was thrown into what the user is told. */
export function failureOf(error: unknown, url?: string): Failure {
  if (error instanceof CliError) {
    return { message: error.message, exit: error.exit };
  }
  if (isDomainError(error)) {
    return { message: error.message, exit: exitOfProblem(error) };
  }
  if (error instanceof ConnectError) {
    return { ...failureOfCall(error, url), code: codeName(error.code) };
  }
  return { message: errorText(error), exit: "failure" };
}

function failureOfCall(error: ConnectError, url: string | undefined): Failure {
  const server = url === undefined ? "the server" : `the server at ${url}`;
  const message = error.rawMessage;
  const obstacle = obstacles[systemCode(error) ?? ""];
  if (obstacle !== undefined) return { message: `${server} cannot be reached: ${obstacle}`, exit: "unavailable" };
  if (error.isWireError && error.code === Code.Unavailable) {
    return { message: `${server} is not available (${message})`, exit: "unavailable" };
  }
  if (!error.isWireError && isBroken(error)) {
    // A port that wants TLS hangs up on anything else, and cannot say why.
    const hint = url?.startsWith("http:") === true ? "; if it speaks TLS, --url begins with https://" : "";
    return { message: `the connection to ${server} broke (${message})${hint}`, exit: "unavailable" };
  }
  switch (error.code) {
    case Code.Unauthenticated:
      return { message: `${message}: give the server's token with --token or SLUICE_TOKEN`, exit: "denied" };
    case Code.DeadlineExceeded:
      return { message: `${server} took too long (${message})`, exit: "unavailable" };
    default:
      return failureOfData(message, error);
  }
}

function failureOfData(message: string, error: ConnectError): Failure {
  const detail = dataErrorOf(error);
  switch (detail?.reason) {
    case DataError_Reason.STREAM_NOT_FOUND:
      return {
        message: `there is no stream "${detail.stream}": see \`sluice streams list\`, or make it with \`sluice push\` or \`sluice streams create\``,
        exit: "notFound",
      };
    case DataError_Reason.CHECKSUM_MISMATCH:
      return { message, exit: "mismatch" };
    default:
      return { message, exit: exitOfCode(error.code) };
  }
}

const noTls = "no TLS connection comes about; if it does not speak TLS there, --url begins with http://";
const unknownCa = "its certificate is signed by an unknown CA; give that CA's file with --ca";

/** What stands between client and server, and the way out, by the system's error code. */
const obstacles: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nothing listens there; start it with `sluice serve`, or give another --url",
  ENOTFOUND: "its host name is unknown; check --url",
  EAI_AGAIN: "its host name cannot be looked up now; check --url and the network",
  EHOSTUNREACH: "there is no way to that host; check --url and the network",
  ENETUNREACH: "there is no way to that network; check --url and the network",
  ETIMEDOUT: "it does not answer; check --url and the network",
  ERR_QUIC_NO_ANSWER:
    "it does not answer over UDP; check --url, that it serves with --http3, and that the network lets UDP through",
  // As HTTP/2 and as HTTP/1.1 report an answer that is no TLS.
  ERR_SSL_WRONG_VERSION_NUMBER: noTls,
  EPROTO: noTls,
  DEPTH_ZERO_SELF_SIGNED_CERT: unknownCa,
  SELF_SIGNED_CERT_IN_CHAIN: unknownCa,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: unknownCa,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: unknownCa,
  CERT_HAS_EXPIRED: "its certificate has expired; `sluice cert` makes a new one for development",
  ERR_TLS_CERT_ALTNAME_INVALID: "its certificate is for another host name; check --url, or `sluice cert --host`",
};

/** Whether a write failed because the disk, or a quota, has no space left. */
export function lacksSpace(error: unknown): boolean {
  return ["ENOSPC", "EDQUOT"].includes(systemCode(error) ?? "");
}

/** The `code` of the system's error behind `error`, such as ECONNREFUSED. */
export function systemCode(error: unknown): string | undefined {
  for (let depth = 0, at = error; depth < 5 && at instanceof Error; depth++, at = at.cause) {
    const code: unknown = "code" in at ? at.code : undefined;
    if (typeof code === "string") return code;
  }
  return undefined;
}

/** `Code.NotFound` -> `not_found`, as the Connect protocol writes it. */
function codeName(code: Code): string {
  return Code[code].replace(/(?!^)[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
}

/** The message of anything thrown. */
export function errorText(error: unknown): string {
  if (error instanceof ConnectError) return error.rawMessage;
  return error instanceof Error ? error.message : String(error);
}

/** A file that cannot be used, in words. `what` is as in "FILE cannot be read". */
export function fileError(path: string, what: "read" | "written", cause: unknown): CliError {
  const reasons: Record<string, string> = {
    ENOENT: what === "read" ? "there is no such file" : "its directory does not exist",
    EACCES: "permission denied",
    EPERM: "permission denied",
    EISDIR: "it is a directory",
    ENOTDIR: "a part of its path is not a directory",
    ENOSPC: "no space is left on the device",
    EDQUOT: "the disk quota is used up",
    EROFS: "the file system is read-only",
    EFBIG: "the file is larger than the file system allows",
  };
  const code = systemCode(cause);
  return new CliError("failure", `${path} cannot be ${what}: ${reasons[code ?? ""] ?? errorText(cause)}`, { cause });
}

/** Of a server that does not start, or a store that cannot be worked on. */
function exitOfProblem(error: DomainError): ExitName {
  if (isPortInUse(error)) return "conflict";
  switch (error.problem.kind) {
    case "store-locked":
    case "store-exists":
      return "conflict";
    case "archive-damaged":
      return "mismatch";
    case "config":
      return "usage";
    default:
      return "failure";
  }
}
