import { Code } from "@connectrpc/connect";

/** What the exit code of `sluice` says. `--help` and README show this table. */
export const exitCodes = {
  ok: { code: 0, meaning: "done" },
  failure: { code: 1, meaning: "any other failure" },
  usage: { code: 2, meaning: "the command line or a value in it is wrong" },
  denied: { code: 3, meaning: "no token, a wrong one, or one that does not allow this" },
  notFound: { code: 4, meaning: "no such stream or service" },
  unavailable: { code: 5, meaning: "the server cannot be reached, is going away, or took too long" },
  conflict: { code: 6, meaning: "not possible as things are: exists already, sealed, in use, or another file" },
  mismatch: { code: 7, meaning: "the data is not what its checksum says" },
  interrupted: { code: 130, meaning: "ended by Ctrl-C (143: by SIGTERM, 129: by SIGHUP)" },
  terminated: { code: 143, meaning: "" },
  hungUp: { code: 129, meaning: "" },
} as const;

export type ExitName = keyof typeof exitCodes;

/** The exit that an RPC's failure leads to. */
export function exitOfCode(code: Code): ExitName {
  switch (code) {
    case Code.InvalidArgument:
      return "usage";
    case Code.Unauthenticated:
    case Code.PermissionDenied:
      return "denied";
    case Code.NotFound:
      return "notFound";
    case Code.Unavailable:
    case Code.DeadlineExceeded:
      return "unavailable";
    case Code.AlreadyExists:
    case Code.FailedPrecondition:
    case Code.OutOfRange:
    case Code.Aborted:
      return "conflict";
    case Code.DataLoss:
      return "mismatch";
    default:
      return "failure";
  }
}

/** The table for --help. */
export function exitCodesHelp(): string {
  const rows = Object.values(exitCodes)
    .filter(({ meaning }) => meaning !== "")
    .map(({ code, meaning }) => `  ${String(code).padEnd(4)} ${meaning}`);
  return ["Exit codes:", ...rows].join("\n");
}
