import { caseName, sizes } from "./cases.ts";
import type { Case } from "./cases.ts";
import type { Chart, Panel } from "./chart.ts";
import type { Machine } from "./machine.ts";
import { count } from "./report.ts";
import type { CaseSummary } from "./summary.ts";

const titles = {
  upload: "upload, a frame each",
  "upload-joined": "upload, joined frames",
  download: "download",
  bidi: "bidi, a frame each",
  "bidi-joined": "bidi, joined frames",
  pingpong: "bidi, ping-pong",
  unary: "unary",
} as const;

const sizeTitles: ReadonlyMap<number, string> = new Map(
  Object.entries(sizes).map(([name, size]) => [size, name.replace(/^(\d+)/, "$1 ")]),
);

/** The cases that the targets speak of: one panel each. */
export function streamingChart(
  summaries: readonly CaseSummary[],
  titlesOf: ReadonlyMap<string, string>,
  notes: readonly string[],
): Chart {
  const shown = summaries.filter(({ comparisons }) => comparisons.some(({ target }) => target !== undefined));
  return {
    title: "Messages on streams, one client in front of each server",
    notes,
    panels: (shown.length > 0 ? shown : summaries).map((summary) => panel(summary, titlesOf)),
  };
}

function panel(summary: CaseSummary, titlesOf: ReadonlyMap<string, string>): Panel {
  const large = summary.size >= sizes["64KiB"];
  const [first] = Object.keys(summary.figures);
  return {
    title: panelTitle(summary),
    unit: large ? "MB/s" : "messages/s",
    bars: Object.entries(summary.figures).map(([name, figures]) => ({
      label: titlesOf.get(name) ?? name,
      value: large ? figures.megabytesPerSecond : figures.messagesPerSecond,
      text: count(large ? figures.megabytesPerSecond : figures.messagesPerSecond),
      ours: name === first,
    })),
  };
}

function panelTitle(what: Case): string {
  const size = sizeTitles.get(what.size) ?? caseName(what).split("/")[1] ?? "";
  const streams =
    what.shape === "unary"
      ? `${count(what.streams)} at once`
      : `${count(what.streams)} ${what.streams === 1 ? "stream" : "streams"}`;
  return `${titles[what.shape]}, ${size}, ${streams}`;
}

/** What a reader needs to judge the figures. */
export function notesOf(
  machine: Machine,
  versions: Readonly<Record<string, string>>,
  date: string,
  client: string,
): string[] {
  const all = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  const memory = Math.round(machine.memoryBytes / 2 ** 30);
  return [
    `${date.slice(0, 10)}; ${machine.cores} cores, ${machine.cpu}, ${memory} GiB, ${machine.system}; loopback, h2c; client: ${client}`,
    all.join(", "),
  ];
}
