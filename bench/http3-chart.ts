import { sizeName, sizes } from "./cases.ts";
import type { Chart, Panel } from "./chart.ts";
import type { Http3Case } from "./http3-cases.ts";
import { count } from "./report.ts";
import type { CaseSummary, Figures } from "./summary.ts";

/** One panel for each case. */
export function http3Chart(
  measured: readonly (readonly [Http3Case, CaseSummary])[],
  titlesOf: ReadonlyMap<string, string>,
  notes: readonly string[],
): Chart {
  return {
    title: "HTTP/3 and HTTP/2 over TLS, one client in front of each server",
    notes: [...notes, "Behind each figure: cores of the server + cores of the client, of the machine's."],
    valueWidth: 110,
    panels: measured.map(([what, summary]) => panel(what, summary, titlesOf)),
  };
}

function panel(what: Http3Case, summary: CaseSummary, titlesOf: ReadonlyMap<string, string>): Panel {
  const large = what.size >= sizes["64KiB"];
  const value = (figures: Figures): number => (large ? figures.megabytesPerSecond : figures.messagesPerSecond / 1000);
  const [first] = Object.keys(summary.figures);
  return {
    title: `${what.shape}, ${sizeName(what.size).replace(/^(\d+)/, "$1 ")}, ${count(what.streams)} ${what.streams === 1 ? "stream" : "streams"}`,
    unit: large ? "MB/s" : "1,000 messages/s",
    bars: Object.entries(summary.figures).map(([name, figures]) => ({
      label: titlesOf.get(name) ?? name,
      value: value(figures),
      text: `${count(value(figures))} (${figures.serverCores.toFixed(1)}+${figures.clientCores.toFixed(1)})`,
      ours: name === first,
    })),
  };
}
