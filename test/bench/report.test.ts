import { describe, expect, it } from "vitest";
import { drawChart } from "../../bench/chart.ts";
import type { Measurement } from "../../bench/load-program.ts";
import type { CaseResult } from "../../bench/measure.ts";
import { figuresTable, ratiosTable } from "../../bench/report.ts";
import { summarize } from "../../bench/summary.ts";
import type { Judgement } from "../../bench/summary.ts";
import { table } from "../../bench/table.ts";
import { targetFor } from "../../bench/targets.ts";

function measured(messages: number, more: Partial<Measurement> = {}): Measurement {
  return {
    messages,
    bytes: messages * 100,
    seconds: 2,
    serverCpuSeconds: 1,
    clientCpuSeconds: 1,
    peakMemoryBytes: 50 * 2 ** 20,
    drained: true,
    ...more,
  };
}

const download: CaseResult = {
  name: "download/100B/1",
  rounds: [
    { sluice: measured(4_000_000), "connect-node": measured(400_000), "grpc-js": measured(2_000_000) },
    { sluice: measured(2_000_000), "connect-node": measured(100_000), "grpc-js": measured(1_000_000) },
    { sluice: measured(3_000_000), "connect-node": measured(500_000), "grpc-js": measured(1_000_000) },
  ],
};
const judgement: Judgement = {
  latency: false,
  targetFor: (contender) => targetFor({ shape: "download", size: 100, streams: 1 }, contender),
};
const names = ["sluice", "connect-node", "grpc-js"];

describe("summarize", () => {
  const summary = summarize(download, names, judgement);

  it("takes the medians of the rounds", () => {
    expect(summary.figures["sluice"]).toMatchObject({
      messagesPerSecond: 1_500_000,
      megabytesPerSecond: 150,
      cpuPerMillionMessages: expect.closeTo(1 / 3) as number,
      clientCores: 0.5,
      p99Seconds: undefined,
    });
  });

  it("compares the first with the others, beside the targets", () => {
    expect(summary.comparisons).toEqual([
      { contender: "connect-node", figure: "messages/s", ratio: 10, target: { figure: "messages/s", atLeast: 10 } },
      { contender: "grpc-js", figure: "messages/s", ratio: 2, target: { figure: "messages/s", atLeast: 3 } },
    ]);
  });

  it("holds nobody else to Sluice's targets", () => {
    const others = summarize(download, ["grpc-js", "connect-node"], judgement);
    expect(others.comparisons.map(({ target }) => target)).toEqual([undefined]);
  });

  it("turns latencies round, so that more is better there too", () => {
    const unary: CaseResult = {
      name: "unary/100B/10",
      rounds: [
        {
          sluice: measured(10, { p50Seconds: 0.001, p99Seconds: 0.002 }),
          "connect-node": measured(10, { p50Seconds: 0.001, p99Seconds: 0.003 }),
        },
      ],
    };
    const summary = summarize(unary, ["sluice", "connect-node"], {
      latency: true,
      targetFor: (contender) => targetFor({ shape: "unary", size: 100, streams: 10 }, contender),
    });
    expect(summary.comparisons[1]).toEqual({
      contender: "connect-node",
      figure: "p99",
      ratio: 1.5,
      target: { figure: "p99", atLeast: 1 },
    });
  });
});

describe("the tables", () => {
  const summaries = [summarize(download, names, judgement)];

  it("say which targets are met and which are not", () => {
    const text = ratiosTable(summaries, names);
    expect(text).toContain("10.00x (>= 10 ok)");
    expect(text).toContain("2.00x (>= 3 MISSED)");
  });

  it("show every server's figures", () => {
    expect(figuresTable(summaries).split("\n")[1]).toMatch(
      /^download\/100B\/1 +sluice +1,500,000 +150\.0 +0\.33 +[\d.]+ +50 +[\d.]+ +0\.50$/,
    );
  });

  it("align their columns", () => {
    expect(
      table(
        ["a", "b"],
        [
          ["long", "1"],
          ["x", "22"],
        ],
      ),
    ).toBe("a      b\nlong   1\nx     22");
  });
});

describe("drawChart", () => {
  const bar = { text: "1", ours: false };
  const panel = {
    title: "small & <many>",
    unit: "messages/s",
    bars: [
      { ...bar, label: "a", value: 200, ours: true },
      { ...bar, label: "b", value: 50 },
    ],
  };
  const svg = drawChart({ title: "t", notes: ["n"], panels: [panel, panel, panel] });

  it("draws bars as long as their values say, from 0", () => {
    const widths = [...svg.matchAll(/class="(ours|theirs)" x="[\d.]+" y="\d+" width="([\d.]+)"/g)].map((m) => [
      m[1],
      Number(m[2]),
    ]);
    expect(widths).toHaveLength(6);
    const [ours, theirs] = widths;
    expect([ours?.[0], theirs?.[0]]).toEqual(["ours", "theirs"]);
    expect(Number(ours?.[1]) / Number(theirs?.[1])).toBeCloseTo(4, 1);
  });

  it("escapes what it writes", () => {
    expect(svg).toContain("small &amp; &lt;many&gt;");
  });

  it("is readable in the dark", () => {
    expect(svg).toContain("prefers-color-scheme: dark");
  });
});
