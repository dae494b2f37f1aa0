import { sizeName, sizes } from "./cases.ts";
import type { Case } from "./cases.ts";
import type { Chart, Panel } from "./chart.ts";
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

/** What README shows: one case for each kind of target. */
const charted: readonly string[] = [
  "upload-joined/100B/1",
  "download/100B/1",
  "bidi-joined/100B/1",
  "pingpong/100B/1",
  "upload/64KiB/1",
  "download/64KiB/1",
  "upload-joined/100B/1000",
  "download/100B/1000",
  "upload/100B/1",
  "unary/100B/10",
];

/** They look for no messages in the bytes, and small ones next to them would show as nothing. */
const bytesOnly: ReadonlySet<string> = new Set(["http2"]);

/** One panel for each of these cases, or for every case if there is none of these. */
export function streamingChart(
  measured: readonly (readonly [Case, CaseSummary])[],
  titlesOf: ReadonlyMap<string, string>,
  notes: readonly string[],
): Chart {
  const shown = charted.flatMap((name) => measured.filter(([, summary]) => summary.name === name));
  return {
    title: "Messages on streams, one client in front of each server",
    notes,
    panels: (shown.length > 0 ? shown : measured).map(([what, summary]) => panel(what, summary, titlesOf)),
  };
}

function panel(what: Case, summary: CaseSummary, titlesOf: ReadonlyMap<string, string>): Panel {
  const large = what.size >= sizes["64KiB"];
  const [first] = Object.keys(summary.figures);
  return {
    title: panelTitle(what),
    unit: large ? "MB/s" : "messages/s",
    bars: Object.entries(summary.figures)
      .filter(([name]) => large || !bytesOnly.has(name))
      .map(([name, figures]) => ({
        label: titlesOf.get(name) ?? name,
        value: large ? figures.megabytesPerSecond : figures.messagesPerSecond,
        text: count(large ? figures.megabytesPerSecond : figures.messagesPerSecond),
        ours: name === first,
      })),
  };
}

function panelTitle(what: Case): string {
  const size = sizeName(what.size).replace(/^(\d+)/, "$1 ");
  const streams =
    what.shape === "unary"
      ? `${count(what.streams)} at once`
      : `${count(what.streams)} ${what.streams === 1 ? "stream" : "streams"}`;
  return `${titles[what.shape]}, ${size}, ${streams}`;
}
