import { Option } from "commander";
import type { Command } from "commander";
import { serverOptions } from "../../config.ts";
import { CliError } from "../failure.ts";
import { longLineModes } from "../lines.ts";
import type { LongLines } from "../lines.ts";
import { pushFile } from "../push-file.ts";
import { pushLines } from "../push-lines.ts";
import { retryForHelp } from "../retries.ts";
import { withClient } from "../session.ts";
import type { ClientSession } from "../session.ts";
import { openStdin } from "../stdin.ts";
import { parseSize, parseWait } from "../values.ts";

export function push(program: Command): void {
  const command = program
    .command("push")
    .description("upload a file to a stream, or append lines as they arrive")
    .argument("<stream>", "name of the stream; it is created if it does not exist")
    .argument("[file]", "file to upload; - for lines from standard input", "-")
    .option("--seal", "seal the stream at the end (default for a file, with its SHA-256)")
    .option("--no-seal", "leave the stream open")
    .addOption(new Option("--chunk-size <size>", "size of a record when a file is uploaded").default("256KiB"))
    .option("--retry-for <duration>", retryForHelp)
    .addOption(
      new Option("--max-line <mode>", "what becomes of a line over 1 MiB: several records, its beginning, or an error")
        .choices(longLineModes)
        .default("split"),
    )
    .addOption(new Option("--buffer <size>", "lines in memory while the server is away").default("16MiB"))
    .option("--spool <file>", "keep lines in this file until they are stored, also for the next push")
    .addOption(new Option("--spool-size <size>", "size of --spool beyond which the input waits").default("1GiB"))
    .addHelpText(
      "after",
      `
A file goes up in chunks, one record each. If the push is interrupted, the same
command goes on where it stopped. A file that is there already is not sent again.

Each line of standard input becomes a record, without its newline. While the server
is away, lines are read until --buffer is full; then the input waits. No line is lost,
and each is stored once. Ctrl-C in an outage ends at once; otherwise a signal (SIGINT,
SIGTERM, SIGHUP) stores what was read first, for up to 5 s.

With --spool every line is in FILE from before it is sent until it is stored. A push
that was ended or killed loses none: the next one with the same FILE sends the rest
first. Each line is stored once, unless the server has forgotten the push meanwhile
(--producer-ttl, or a stream that was deleted): then those without an answer are sent
again, which is told. A line is on the disk before it is sent; of those that are not
sent, a power cut takes the last ones. One push at a time uses a FILE.

Without a server at the start, push fails at once, unless --retry-for or --spool is
given. A refused token or a deleted stream ends it always.

Examples:
  $ sluice push backup/db.dump db.dump
  $ journalctl -f | sluice push logs/host1 -`,
    );
  withClient(command, run);
}

async function run(session: ClientSession): Promise<void> {
  const { args, flags } = session;
  const [stream, path] = args as [string, string];
  const max = serverOptions.maxMessageBytes.type;
  const chunkBytes = parseSize("--chunk-size", flags["chunkSize"], { min: 1, max: "max" in max ? max.max : Infinity });
  const retryForMs = parseWait("--retry-for", flags["retryFor"]);
  if (path === "-") {
    const input = openStdin();
    if (input.isTTY) session.out.note("Reading lines from the terminal. Ctrl-D ends.");
    const spool = flags["spool"] as string | undefined;
    const spoolBytes = parseSize("--spool-size", flags["spoolSize"], { min: 1 }) ?? Infinity;
    await pushLines(session, {
      stream,
      input,
      seal: flags["seal"] === true,
      longLines: flags["maxLine"] as LongLines,
      bufferBytes: parseSize("--buffer", flags["buffer"], { min: 1 }) ?? Infinity,
      spool: spool === undefined ? undefined : { path: spool, maxBytes: spoolBytes },
      retryForMs,
    });
  } else {
    if (chunkBytes === undefined) throw new CliError("usage", "--chunk-size needs a value");
    await pushFile(session, { stream, path, chunkBytes, seal: flags["seal"] !== false, retryForMs });
  }
}
