import { Code, ConnectError } from "@connectrpc/connect";
import { DataErrorSchema } from "../../gen/data/v1/data_pb.ts";
import type { DataError } from "../../gen/data/v1/data_pb.ts";
import { certificateProblem } from "./certificate-errors.ts";
import { causeCode } from "./retry.ts";

/** What DataService says of a failure: the reason, the positions. Undefined if it is not one of its failures. */
export function dataErrorOf(error: unknown): DataError | undefined {
  return error instanceof ConnectError ? error.findDetails(DataErrorSchema)[0] : undefined;
}

/** A failure as a sentence for people: what is wrong, and what to do. */
export function describeError(error: unknown, url = "the URL"): string {
  if (!(error instanceof ConnectError)) return error instanceof Error ? error.message : String(error);
  const cause = causeCode(error);
  if (cause === "ECONNREFUSED")
    return `no server answers at ${url}: start one with \`sluice serve\`, or give another URL`;
  if (cause === "ENOTFOUND" || cause === "EAI_AGAIN") return `the host name in ${url} is unknown`;
  const problem = certificateProblem(error, url);
  if (problem !== undefined) return problem;
  switch (error.code) {
    case Code.Unauthenticated:
      return `${error.rawMessage}: give the server's token`;
    case Code.Unavailable:
      return `${url} cannot be reached: ${error.rawMessage}`;
    default:
      return error.rawMessage;
  }
}
