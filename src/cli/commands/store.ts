import type { Command } from "commander";
import { stat } from "node:fs/promises";
import type { CheckResult, Finding } from "../../store/lmdb-check.ts";
import { openArchive } from "../archive-file.ts";
import { fileError } from "../failure.ts";
import { formatSize, plural } from "../format.ts";
import { terminalText } from "../output.ts";
import { withSession } from "../session.ts";
import type { Session } from "../session.ts";
import { damagedOf, summaryOf } from "./backup.ts";

export function store(program: Command): void {
  const group = program.command("store").description("check a store on the disk, and make it smaller");
  withSession(
    group
      .command("check")
      .description("walk through a data directory, or a backup, and say what is not right")
      .argument("<path>", "the data directory, or the file of a backup")
      .addHelpText(
        "after",
        `
A server may use the directory meanwhile: it is checked as it is at one moment.
The exit code is 7 if something is not right.

Examples:
  $ sluice store check /var/lib/sluice
  $ sluice store check /backups/2026-01-31.sluice --json`,
      ),
    check,
  );
  withSession(
    group
      .command("compact")
      .description("write the file of a data directory anew, without the space that deletes have left")
      .argument("<dir>", "the data directory, which no server uses")
      .addHelpText(
        "after",
        `
It needs as much free space as the data takes; until all of it is on the disk the old
file stays. Batches of earlier versions get a checksum. Streams stay the same ones.

Examples:
  $ sluice store compact /var/lib/sluice`,
      ),
    compact,
  );
}

async function check({ out, args, signal }: Session): Promise<"ok" | "mismatch"> {
  const path = args[0] as string;
  const isDirectory = await stat(path).then(
    (stats) => stats.isDirectory(),
    (error: unknown) => {
      throw fileError(path, "read", error);
    },
  );
  const bar = out.progress("check", 0);
  const options = { signal, onProgress: bar.update };
  try {
    if (!isDirectory) {
      const { checkArchive } = await import("../../store/backup.ts");
      const { head, ...totals } = await checkArchive(await openArchive(path, signal), options);
      bar.stop();
      const state = totals.damaged === 0 ? "all right" : damagedOf(totals.damaged);
      await out.result(`${summaryOf(totals)}, as of ${head.time}: ${state}`, { ...totals, ...head });
      return totals.damaged === 0 ? "ok" : "mismatch";
    }
    const { checkStore } = await import("../../store/check-store.ts");
    const onFinding = async (finding: Finding): Promise<void> => {
      await out.result(terminalText(textOf(finding)), { ...finding });
    };
    const result = await checkStore(path, { ...options, onFinding });
    bar.stop();
    await out.result(describe(result), { ...result });
    return result.findings === 0 ? "ok" : "mismatch";
  } finally {
    bar.stop();
  }
}

function textOf({ stream, seq, detail }: Finding): string {
  const place = stream === undefined ? "" : `stream "${stream}"${seq === undefined ? "" : ` at seq ${seq}`}: `;
  return `${place}${detail}`;
}

function describe(result: CheckResult): string {
  const { format, withoutChecksum, findings } = result;
  const old = withoutChecksum === 0 ? "" : `; ${withoutChecksum} of ${result.batches} batches have no checksum yet`;
  return `${summaryOf(result)}, format ${format}${old}: ${findings === 0 ? "all right" : plural(findings, "finding")}`;
}

async function compact({ out, args, signal }: Session): Promise<"ok"> {
  const dir = args[0] as string;
  const { compact: makeCompact } = await import("../../store/backup.ts");
  const bar = out.progress("compact", 0);
  try {
    const { before, after, ...totals } = await makeCompact(dir, { signal, onProgress: bar.update });
    bar.stop();
    const sizes = `${formatSize(before)} before, ${formatSize(after)} now`;
    await out.result(`${summaryOf(totals)}: ${sizes}`, { ...totals, before, after, dir });
    if (totals.damaged > 0) out.note(`${damagedOf(totals.damaged)}, and copied as they are`);
    return "ok";
  } finally {
    bar.stop();
  }
}
