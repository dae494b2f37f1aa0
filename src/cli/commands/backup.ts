import type { Command } from "commander";
import { existsSync } from "node:fs";
import { backupOptions, parseOptions } from "../../config.ts";
import type { Totals } from "../../store/archive.ts";
import type { ExitName } from "../exit-codes.ts";
import { CliError } from "../failure.ts";
import { formatSize, plural } from "../format.ts";
import { Interrupted } from "../interrupt.ts";
import { NewFile, existsAlready } from "../new-file.ts";
import { addOptions } from "../options.ts";
import { withSession } from "../session.ts";
import type { Session } from "../session.ts";
import { packageVersion } from "../version.ts";

export function backup(program: Command): void {
  const command = program
    .command("backup")
    .description("copy a store to a file, also while a server uses it")
    .argument("<file>", "where to; - for standard output")
    .option("--force", "replace the file if it is there")
    .addHelpText(
      "after",
      `
The backup is the store as it is at one moment: each stream up to a batch, with all
that had been acknowledged before. It runs on the server's machine and as its user, and
needs no token: the server reads the store out on a socket in the directory.
Each batch is checked on the way; damaged ones are copied as they are, and the exit
code is 7. \`sluice restore\` makes a store of it, \`sluice store check\` checks it.

Examples:
  $ sluice backup --data-dir /var/lib/sluice /backups/$(date +%F).sluice
  $ sluice backup - --rate 10MiB | zstd | ssh backups 'cat > sluice.zst'`,
    );
  withSession(command, run);
  addOptions(command, "Store:", backupOptions);
}

async function run({ out, args, flags, signal }: Session): Promise<ExitName> {
  const { dataDir, rate } = parseOptions(backupOptions, flags, process.env);
  const path = args[0] as string;
  const replace = flags["force"] === true;
  if (path === "-" && out.toTerminal) {
    throw new CliError("usage", "a backup is no text: give a file, or send standard output to one");
  }
  if (path !== "-" && !replace && existsSync(path)) throw existsAlready(path);
  // Loaded here, because the other commands start faster without the store.
  const { backUp } = await import("../../store/backup.ts");
  const bar = out.progress("backup", 0);
  const options = {
    version: packageVersion(),
    rate: rate === 0 ? Infinity : rate,
    signal,
    onProgress: bar.update,
  };
  let totals: Totals;
  const file = path === "-" ? undefined : await NewFile.open(path, { replace });
  try {
    totals = await backUp(dataDir, (bytes) => file?.write(bytes) ?? out.write(bytes), options);
    await file?.finish();
  } catch (error) {
    // That nobody reads on is no failure of other commands.
    if (!(signal.reason instanceof Interrupted) || signal.reason.exit !== "ok") throw error;
    out.failure({ message: "standard output was closed before the backup was whole", exit: "failure" });
    return "failure";
  } finally {
    bar.stop();
    await file?.discard();
  }
  const text = `backed up ${summaryOf(totals)}${file === undefined ? "" : ` to ${path}`}`;
  if (file === undefined) out.note(text);
  else await out.result(text, { ...totals, file: path });
  if (totals.damaged === 0) return "ok";
  out.note(`${damagedOf(totals.damaged)} in the store, and copied as they are: see \`sluice store check ${dataDir}\``);
  return "mismatch";
}

/** How many batches are damaged, in words. */
export function damagedOf(count: number): string {
  return count === 1 ? "1 batch is damaged" : `${count} batches are damaged`;
}

/** What is in a store or a backup, in words. */
export function summaryOf({ streams, records, bytes }: Totals): string {
  return `${plural(streams, "stream")} with ${plural(records, "record")}, ${formatSize(bytes)}`;
}
