import { sizeName, sizes } from "./cases.ts";
import type { Chart, Panel } from "./chart.ts";
import type { DataCase } from "./data-cases.ts";
import { count } from "./report.ts";
import type { CaseSummary } from "./summary.ts";

/** One panel for each case. */
export function dataChart(
  measured: readonly (readonly [DataCase, CaseSummary])[],
  titlesOf: ReadonlyMap<string, string>,
  notes: readonly string[],
): Chart {
  return {
    title: "Records appended and replayed, one client in front of each store",
    notes,
    panels: measured.map(([what, summary]) => panel(what, summary, titlesOf)),
  };
}

function panel(what: DataCase, summary: CaseSummary, titlesOf: ReadonlyMap<string, string>): Panel {
  const large = what.size >= sizes["64KiB"];
  const verb = what.shape === "append-batched" ? `append, ${what.batch} together` : what.shape;
  const [first] = Object.keys(summary.figures);
  return {
    title: `${verb}, ${sizeName(what.size).replace(/^(\d+)/, "$1 ")}, ${count(what.streams)} ${what.streams === 1 ? "stream" : "streams"}`,
    unit: large ? "MB/s" : "records/s",
    bars: Object.entries(summary.figures).map(([name, figures]) => ({
      label: titlesOf.get(name) ?? name,
      value: large ? figures.megabytesPerSecond : figures.messagesPerSecond,
      text: count(large ? figures.megabytesPerSecond : figures.messagesPerSecond),
      ours: name === first,
    })),
  };
}
