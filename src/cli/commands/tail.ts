import type { Command } from "commander";
import { terminalText } from "../output.ts";
import { recordJson, toText } from "../records.ts";
import { Retries } from "../retries.ts";
import { withClient } from "../session.ts";
import type { ClientSession } from "../session.ts";
import { parsePosition, parseWait } from "../values.ts";

export function tail(program: Command): void {
  const command = program
    .command("tail")
    .description("print a stream's records as lines, and go on as more arrive")
    .argument("<stream>", "name of the stream")
    .option(
      "--from <position>",
      "head, tail, a seq, a checkpoint (uid:seq), -N for the last N, or a time (2026-01-31T12:00:00Z, or 15m ago)",
      "-10",
    )
    .option("--no-follow", "end at the tail")
    .option("--retry-for <duration>", "how long to try again when the server is away (default: for ever)")
    .addHelpText(
      "after",
      `
It goes on by itself after a broken connection, and ends when the stream is sealed.
With --json each record has the stream's uid: --from UID:SEQ goes on in that very
stream, and fails if it was deleted and made again.
Without a server at the start it fails at once, unless --retry-for is given.

Examples:
  $ sluice tail logs/host1
  $ sluice tail logs/host1 --from 1h --no-follow --json`,
    );
  withClient(command, run);
}

async function run({ client, out, args, flags, signal, endWithReader }: ClientSession): Promise<void> {
  endWithReader();
  const name = args[0] as string;
  const from = parsePosition("--from", String(flags["from"]));
  // A reader waits and tries again; a wrong name, token or server is to be told at once.
  const retries = new Retries(out, parseWait("--retry-for", flags["retryFor"]));
  await retries.start(signal, () => client.data.getStream(name, { signal }));
  const records = client.data.read(name, {
    from,
    follow: flags["follow"] !== false,
    signal,
    retry: retries.options,
    onRetry: retries.onRetry,
    onCaughtUp: () => {
      retries.succeeded();
    },
  });
  for await (const record of records) {
    retries.succeeded();
    // On a terminal nobody's data may move the cursor; a pipe gets the bytes.
    if (out.json) await out.result("", recordJson(record));
    else if (out.toTerminal) await out.text(terminalText(toText(record.data)));
    else await out.write(Buffer.concat([record.data, newline]));
  }
}

const newline = Buffer.from("\n");
