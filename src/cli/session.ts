import type { Command } from "commander";
import { readFile } from "node:fs/promises";
import { createSluiceClient } from "../client/index.ts";
import type { SluiceClient } from "../client/index.ts";
import { clientOptions, isLoopback, parseOptions, sampleToken } from "../config.ts";
import type { ClientConfig } from "../config.ts";
import { exitCodes } from "./exit-codes.ts";
import type { ExitName } from "./exit-codes.ts";
import { CliError, failureOf, fileError, systemCode } from "./failure.ts";
import { Interrupted, onInterrupt } from "./interrupt.ts";
import type { EndSignal } from "./interrupt.ts";
import { addOptions } from "./options.ts";
import type { Flags } from "./options.ts";
import { Output } from "./output.ts";
import { watchReader } from "./reader-watch.ts";

/** What a command has at hand while it runs. */
export interface Session {
  readonly out: Output;
  /** The command's own arguments, in order; an omitted one is undefined. */
  readonly args: readonly unknown[];
  readonly flags: Flags;
  /** Aborted with an `Interrupted` by Ctrl-C, SIGTERM, SIGHUP, or when nobody reads the output any more. */
  readonly signal: AbortSignal;
  /** Ends the command, too, when the reader of standard output has gone while nothing is written, as with `| head -1`. */
  readonly endWithReader: () => void;
}

export interface ClientSession extends Session {
  readonly client: SluiceClient;
  readonly config: ClientConfig;
}

/** What a command's work comes to. Without an exit it is "ok" or, after a signal, that signal's. */
type Work = Promise<void> | Promise<ExitName | undefined>;

/** Adds `--json`, which every command takes, and runs `work` with a session. */
export function withSession(command: Command, work: (session: Session) => Work): Command {
  return jsonOption(command).action(async () => {
    await run(command, work, ["SIGINT", "SIGTERM"]);
  });
}

/** As `withSession`, with a client for the server that the options name. */
export function withClient(command: Command, work: (session: ClientSession) => Work): Command {
  const callServer = async (session: Session): Promise<ExitName | undefined> => {
    const config = parseOptions(clientOptions, session.flags, process.env);
    const client = await connect(config);
    try {
      const exit = await work({ ...session, client, config });
      return typeof exit === "string" ? exit : undefined;
    } finally {
      await client.close();
    }
  };
  jsonOption(command).action(async () => {
    await run(command, callServer, ["SIGINT", "SIGTERM", "SIGHUP"]);
  });
  addOptions(command, "Connection:", clientOptions);
  return command;
}

function jsonOption(command: Command): Command {
  return command.option("--json", "print JSON, one object a line");
}

async function run(command: Command, work: (session: Session) => Work, signals: readonly EndSignal[]): Promise<void> {
  const flags = command.opts<Flags>();
  const { stdout, stderr } = process;
  const ending = new AbortController();
  const out = new Output({ json: flags["json"] === true, stdout, stderr, signal: ending.signal });
  stdout.on("error", (error) => {
    // That nobody reads any more, as in `| head`, is no failure.
    ending.abort(
      systemCode(error) === "EPIPE" ? new Interrupted("ok") : fileError("standard output", "written", error),
    );
  });
  const stopListening = onInterrupt(
    signals,
    (exit) => {
      ending.abort(new Interrupted(exit));
    },
    (exit) => process.exit(exitCodes[exit].code),
  );
  let stopWatching = (): void => undefined;
  const endWithReader = (): void => {
    stopWatching = watchReader(stdout.fd, () => {
      ending.abort(new Interrupted("ok"));
    });
  };
  let exit: ExitName;
  try {
    const args = command.processedArgs as unknown[];
    const chosen = await work({ out, args, flags, signal: ending.signal, endWithReader });
    if (typeof chosen !== "string") ending.signal.throwIfAborted();
    exit = typeof chosen === "string" ? chosen : "ok";
  } catch (error) {
    exit = report(error, ending.signal, out, flags);
  } finally {
    stopListening();
    stopWatching();
  }
  process.exitCode = exitCodes[exit].code;
}

function report(error: unknown, signal: AbortSignal, out: Output, flags: Flags): ExitName {
  const reason: unknown = signal.aborted ? signal.reason : undefined;
  // Whatever fails after a signal fails because of it; only a command's own sentence says more.
  if (reason instanceof Interrupted) {
    if (error instanceof CliError && reason.exit !== "ok") out.failure(failureOf(error));
    return reason.exit;
  }
  const cause = reason ?? error;
  const url = flags["url"] ?? process.env[clientOptions.url.env];
  const failure = failureOf(cause, typeof url === "string" && url !== "" ? url : clientOptions.url.default);
  out.failure(failure);
  if (/^(debug|trace)$/.test(process.env["SLUICE_LOG_LEVEL"] ?? "") && cause instanceof Error) {
    out.note(cause.stack ?? "");
  }
  return failure.exit;
}

async function connect(config: ClientConfig): Promise<SluiceClient> {
  const url = URL.canParse(config.url) ? new URL(config.url) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw new CliError("usage", `--url must be a URL such as http://127.0.0.1:8080, not "${config.url}"`);
  }
  if (url.search !== "" || url.hash !== "" || url.username !== "" || url.password !== "") {
    throw new CliError(
      "usage",
      "--url must have a host, and perhaps a port and a path: no `user:password@`, `?` or `#`",
    );
  }
  const httpVersion = config.http3 ? "3" : config.httpVersion;
  if (httpVersion === "3" && url.protocol !== "https:") {
    throw new CliError(
      "usage",
      "HTTP/3 needs an https URL, because QUIC is always encrypted: give --url https://... and --ca",
    );
  }
  if (config.protocol === "grpc" && httpVersion === "1.1") {
    throw new CliError("usage", "gRPC needs HTTP/2: leave --http-version 1.1 away, or use --protocol grpc-web");
  }
  const token = config.token ?? (isLoopback(url.hostname) ? sampleToken : "");
  // Checked here, because what fails later would show the token.
  if (!/^[\x21-\x7e]*$/.test(token)) {
    throw new CliError(
      "usage",
      "the token has a character in it that no token can have: is there a blank or a line end?",
    );
  }
  if ((config.cert === undefined) !== (config.key === undefined)) {
    throw new CliError("usage", "--cert and --key must be given together");
  }
  const [ca, cert, key] = await Promise.all([config.ca, config.cert, config.key].map(readPem));
  return createSluiceClient({
    url: config.url,
    protocol: config.protocol,
    httpVersion,
    ...(token === "" ? {} : { token }),
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(config.timeout === 0 ? {} : { timeoutMs: config.timeout }),
  });
}

async function readPem(path: string | undefined): Promise<Buffer | undefined> {
  if (path === undefined) return undefined;
  try {
    return await readFile(path);
  } catch (error) {
    throw fileError(path, "read", error);
  }
}
