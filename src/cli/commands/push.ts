import { Option } from "commander";
import type { Command } from "commander";
import { serverOptions } from "../../config.ts";
import { CliError } from "../failure.ts";
import { pushFile } from "../push-file.ts";
import { pushLines } from "../push-lines.ts";
import { withClient } from "../session.ts";
import type { ClientSession } from "../session.ts";
import { openStdin } from "../stdin.ts";
import { parseSize } from "../values.ts";

export function push(program: Command): void {
  const command = program
    .command("push")
    .description("upload a file to a stream, or append lines as they arrive")
    .argument("<stream>", "name of the stream; it is created if it does not exist")
    .argument("[file]", "file to upload; - for lines from standard input", "-")
    .option("--seal", "seal the stream at the end (default for a file, with its SHA-256)")
    .option("--no-seal", "leave the stream open")
    .addOption(new Option("--chunk-size <size>", "size of a record when a file is uploaded").default("256KiB"))
    .addHelpText(
      "after",
      `
A file goes up in chunks, one record each. If the push is interrupted, the same
command goes on where it stopped. A file that is there already is not sent again.

Each line of standard input becomes a record, without its newline.

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
  if (path === "-") {
    const input = openStdin();
    if (input.isTTY) session.out.note("Reading lines from the terminal. Ctrl-D ends.");
    await pushLines(session, { stream, input, seal: flags["seal"] === true });
  } else {
    if (chunkBytes === undefined) throw new CliError("usage", "--chunk-size needs a value");
    await pushFile(session, { stream, path, chunkBytes, seal: flags["seal"] !== false });
  }
}
