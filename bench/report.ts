import type { CaseSummary, Comparison } from "./summary.ts";
import { table } from "./table.ts";

/** Both tables, as they are printed. */
export function report(summaries: readonly CaseSummary[], contenders: readonly string[], rounds: number): string {
  const figures = `\n${figuresTable(summaries)}\n\n`;
  const [first, ...others] = contenders;
  if (first === undefined || others.length === 0) return figures;
  const about = `${first} against the others, medians of the ratios of ${rounds} ${rounds === 1 ? "round" : "rounds"}; more is better.`;
  return `${figures}${about}\n${ratiosTable(summaries, contenders)}\n\n`;
}

/** What every contender did, in medians. */
export function figuresTable(summaries: readonly CaseSummary[]): string {
  const rows = summaries.flatMap((summary) =>
    Object.entries(summary.figures).map(([contender, f]) => [
      summary.name,
      contender,
      count(f.messagesPerSecond),
      f.megabytesPerSecond.toFixed(1),
      f.cpuPerMillionMessages.toFixed(2),
      f.cpuPerGigabyte.toFixed(2),
      milliseconds(f.p50Seconds),
      milliseconds(f.p99Seconds),
      (f.peakMemoryBytes / 2 ** 20).toFixed(0),
      f.serverCores.toFixed(2),
      f.clientCores.toFixed(2),
    ]),
  );
  return table(
    [
      "case",
      "server",
      "messages/s",
      "MB/s",
      "CPU s/M",
      "CPU s/GB",
      "p50 ms",
      "p99 ms",
      "peak MiB",
      "server cores",
      "client cores",
    ],
    rows,
  );
}

/** Sluice against each other contender, with the targets. */
export function ratiosTable(summaries: readonly CaseSummary[], contenders: readonly string[]): string {
  const others = contenders.slice(1);
  // One table for all cases: a contender that has no part in one leaves its cell empty.
  const rows = summaries.flatMap((summary) =>
    (["messages/s", "p99"] as const).flatMap((figure) => {
      const comparisons = summary.comparisons.filter((c) => c.figure === figure);
      if (comparisons.length === 0) return [];
      const cells = others.map((name) => ratioCell(comparisons.find((c) => c.contender === name)));
      return [[summary.name, figure, ...cells]];
    }),
  );
  return table(["case", "figure", ...others], rows);
}

/** `12.3x (>= 10 ok)` */
function ratioCell(comparison: Comparison | undefined): string {
  if (comparison === undefined) return "";
  const { ratio, target } = comparison;
  const text = `${ratio < 0.1 ? ratio.toPrecision(1) : ratio.toFixed(2)}x`;
  if (target === undefined) return text;
  return `${text} (>= ${target.atLeast} ${meets(comparison) ? "ok" : "MISSED"})`;
}

export function meets({ ratio, target }: Comparison): boolean {
  return target === undefined || ratio >= target.atLeast;
}

/** 1234567 -> `1,234,567` */
export function count(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

function milliseconds(seconds: number | undefined): string {
  return seconds === undefined ? "" : (seconds * 1000).toFixed(3);
}
