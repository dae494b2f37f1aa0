/** One case: a bar for each server. */
export interface Panel {
  readonly title: string;
  readonly unit: string;
  readonly bars: readonly Bar[];
}

export interface Bar {
  readonly label: string;
  readonly value: number;
  /** How the value is written. */
  readonly text: string;
  /** Drawn in the accent colour. */
  readonly ours: boolean;
}

export interface Chart {
  readonly title: string;
  /** Machine, versions, date. */
  readonly notes: readonly string[];
  readonly panels: readonly Panel[];
  /** Room for the values behind the bars. */
  readonly valueWidth?: number;
}

const panelWidth = 440;
const columns = 2;
const margin = 24;
const labelWidth = 160;
const usualValueWidth = 80;
const barHeight = 16;
const barStep = 22;
const panelHead = 44;
const chartHead = 56;
const noteStep = 16;

/**
 * Draws small bar charts beside each other, each with a scale of its own from 0.
 * The text is the reader's own colour of text, light or dark.
 */
export function drawChart({ title, notes, panels, valueWidth = usualValueWidth }: Chart): string {
  const rows: (readonly Panel[])[] = [];
  for (let i = 0; i < panels.length; i += columns) rows.push(panels.slice(i, i + columns));
  const parts: string[] = [];
  let y = chartHead;
  for (const row of rows) {
    row.forEach((panel, column) => {
      parts.push(drawPanel(panel, margin + column * (panelWidth + margin), y, valueWidth));
    });
    y += panelHead + Math.max(...row.map(({ bars }) => bars.length)) * barStep + margin / 2;
  }
  y += noteStep;
  for (const note of notes) {
    parts.push(text(margin, y, "note", note));
    y += noteStep;
  }
  const width = margin + columns * (panelWidth + margin);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${y + margin / 2}" width="${width}" role="img" aria-label="${escape(title)}">
<style>
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 17px; font-weight: 600 }
  .head { font-size: 13px; font-weight: 600 }
  .note, .unit { fill: #59636e; font-size: 11px }
  .value { font-variant-numeric: tabular-nums }
  .ground { fill: #ffffff }
  .ours { fill: #0969da }
  .theirs { fill: #afb8c1 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .note, .unit { fill: #9198a1 }
    .ground { fill: #0d1117 }
    .ours { fill: #4493f8 }
    .theirs { fill: #545d68 }
  }
</style>
<rect class="ground" width="100%" height="100%" rx="6"/>
${text(margin, 34, "title", title)}
${parts.join("\n")}
</svg>
`;
}

function drawPanel({ title, unit, bars }: Panel, x: number, y: number, valueWidth: number): string {
  const most = Math.max(...bars.map(({ value }) => value));
  const room = panelWidth - labelWidth - valueWidth;
  const lines = bars.map((bar, i) => {
    const top = y + panelHead - 12 + i * barStep;
    const width = most > 0 ? Math.max(1, (bar.value / most) * room) : 1;
    return [
      text(x, top + 12, "label", bar.label),
      `<rect class="${bar.ours ? "ours" : "theirs"}" x="${x + labelWidth}" y="${top}" width="${width.toFixed(1)}" height="${barHeight}" rx="2"/>`,
      text(x + labelWidth + width + 6, top + 12, "value", bar.text),
    ].join("\n");
  });
  return [text(x, y + 10, "head", title), text(x + panelWidth, y + 10, "unit", unit, "end"), ...lines].join("\n");
}

function text(x: number, y: number, kind: string, content: string, anchor?: "end"): string {
  const end = anchor === undefined ? "" : ` text-anchor="${anchor}"`;
  return `<text class="${kind}" x="${x.toFixed(1)}" y="${y}"${end}>${escape(content)}</text>`;
}

function escape(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
