import { sizeName } from "./cases.ts";
import type { Chart, Panel } from "./chart.ts";
import type { LossCase } from "./loss-cases.ts";
import { count } from "./report.ts";
import type { CaseSummary } from "./summary.ts";

/** A panel for the middle and one for the end of each case. */
export function lossChart(
  measured: readonly (readonly [LossCase, CaseSummary])[],
  titlesOf: ReadonlyMap<string, string>,
  notes: readonly string[],
): Chart {
  return {
    title: "Time to an answer on a link that loses packets",
    notes,
    panels: measured.flatMap((each) => (["p50", "p99"] as const).map((figure) => panel(figure, each, titlesOf))),
  };
}

function panel(
  figure: "p50" | "p99",
  [what, summary]: readonly [LossCase, CaseSummary],
  titlesOf: ReadonlyMap<string, string>,
): Panel {
  const size = sizeName(what.size).replace(/^(\d+)/, "$1 ");
  const [first] = Object.keys(summary.figures);
  return {
    title: `${figure}: ${size} each way, ${count(what.rate)} a second on ${count(what.streams)} streams`,
    unit: "ms",
    bars: Object.entries(summary.figures).map(([name, figures]) => {
      const ms = 1000 * (figures[`${figure}Seconds`] ?? NaN);
      return { label: titlesOf.get(name) ?? name, value: ms, text: count(ms), ours: name === first };
    }),
  };
}
