import type { Command } from "commander";
import { backupOptions, parseOptions } from "../../config.ts";
import { openArchive } from "../archive-file.ts";
import { addOptions } from "../options.ts";
import { withSession } from "../session.ts";
import type { Session } from "../session.ts";
import { summaryOf } from "./backup.ts";

const { dataDir } = backupOptions;

export function restore(program: Command): void {
  const command = program
    .command("restore")
    .description("make a store of a backup, in a data directory that has none")
    .argument("<file>", "the backup; - for standard input")
    .addHelpText(
      "after",
      `
The backup is checked on the way, and nothing is left of one that is not whole.
Every stream gets a new uid: clients that have read or appended later than the backup
are told that the stream was replaced, and do not go on in older data. To move a store
of a server that was stopped, copy its data directory instead: then nothing changes.

Examples:
  $ sluice restore /backups/2026-01-31.sluice --data-dir /var/lib/sluice
  $ ssh backups 'cat sluice.zst' | zstd -d | sluice restore - --data-dir data`,
    );
  withSession(command, run);
  addOptions(command, "Store:", { dataDir });
}

async function run({ out, args, flags, signal }: Session): Promise<"ok"> {
  const dir = parseOptions({ dataDir }, flags, process.env).dataDir;
  const path = args[0] as string;
  // Loaded here, because the other commands start faster without the store.
  const { restore: restoreTo } = await import("../../store/backup.ts");
  const input = await openArchive(path, signal);
  const bar = out.progress("restore", input.size ?? 0);
  try {
    const { head, ...totals } = await restoreTo(input, dir, { signal, onProgress: bar.update });
    bar.stop();
    await out.result(`restored ${summaryOf(totals)}, as of ${head.time}, to ${dir}`, { ...totals, ...head, dir });
    return "ok";
  } finally {
    bar.stop();
  }
}
