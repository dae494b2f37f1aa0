/** Many streams, and many followers of one: start, pages, memory over time. `npm run bench:scale -- --help` */
import { parseArgs } from "node:util";
import { drawChart } from "./chart.ts";
import type { Panel } from "./chart.ts";
import { describeMachine, notesOf, versions as versionsOf } from "./machine.ts";
import { writeResults } from "./results.ts";
import { measureFollowers } from "./scale-followers.ts";
import type { FollowersResult } from "./scale-followers.ts";
import { measureStreams } from "./scale-streams.ts";
import type { StreamsResult } from "./scale-streams.ts";
import { table } from "./table.ts";

const usage = `npm run bench:scale -- [options]   100,000 streams, and 10,000 followers of one; needs Linux

  --quick               2,000 streams, and 500 followers for ten seconds
  --only PART           streams or followers
  --streams N
  --followers N
  --seconds S           how long the followers follow
  --appends N           records a second that they get
  --node-option OPTION  for the server, such as --max-semi-space-size=8; more than once if need be
  --name NAME           of the files in bench/results
`;

const { values } = parseArgs({
  options: {
    help: { type: "boolean", short: "h", default: false },
    quick: { type: "boolean", default: false },
    only: { type: "string" },
    streams: { type: "string" },
    followers: { type: "string" },
    seconds: { type: "string" },
    appends: { type: "string", default: "12" },
    "node-option": { type: "string", multiple: true, default: [] },
    name: { type: "string" },
  },
});
if (values.help) process.stdout.write(usage);
else await main();

async function main(): Promise<void> {
  const { quick, only } = values;
  if (only !== undefined && only !== "streams" && only !== "followers") {
    throw new Error(`--only must be streams or followers, not "${only}"`);
  }
  const nodeOptions = values["node-option"];
  const onProgress = (line: string): void => {
    process.stderr.write(`${line}\n`);
  };
  const date = new Date().toISOString();
  const machine = describeMachine();
  const { sluice = "", node = "" } = versionsOf(undefined);
  const versions = { sluice, node };
  const command = ["npm run bench:scale --", ...process.argv.slice(2)].join(" ").replace(/ --$/, "");
  const notes = [...notesOf(machine, versions, date, "node:http2", "loopback, h2c"), command];
  process.stdout.write(`${notes.join("\n")}\n\n`);

  const streams =
    only === "followers"
      ? undefined
      : await measureStreams({
          streams: count("--streams", values.streams, quick ? 2_000 : 100_000),
          pages: quick ? 50 : 300,
          sweepSeconds: quick ? 3 : 15,
          nodeOptions,
          onProgress,
        });
  if (streams !== undefined) process.stdout.write(`${reportStreams(streams)}\n\n`);
  const followers =
    only === "streams"
      ? undefined
      : await measureFollowers({
          followers: count("--followers", values.followers, quick ? 500 : 10_000),
          seconds: count("--seconds", values.seconds, quick ? 10 : 300),
          appendsPerSecond: count("--appends", values.appends, 12),
          nodeOptions,
          onProgress,
        });
  if (followers !== undefined) process.stdout.write(`${reportFollowers(followers)}\n\n`);
  const results = { benchmark: "scale", date, machine, versions, command, nodeOptions, streams, followers };
  const panels = [
    ...(streams === undefined ? [] : pagePanels(streams)),
    ...(followers === undefined ? [] : memoryPanels(followers)),
  ];
  const chart = drawChart({ title: "Many streams, and many followers of one", notes, panels });
  const written = writeResults(values.name ?? (quick || only !== undefined ? "quick-scale" : "scale"), results, chart);
  process.stdout.write(`written: ${written.join(", ")}\n`);
}

function reportStreams({
  streams,
  startSeconds,
  idleRssBytes,
  pages,
  sweepStallMs,
  idleStallMs,
}: StreamsResult): string {
  const rows = pages.map(({ token, pageSize, p50, p99 }) => [
    `pages of ${pageSize}, a token that sees ${token}`,
    `${p50.toFixed(1)} ms`,
    `${p99.toFixed(1)} ms`,
  ]);
  return [
    `${streams} streams: start ${startSeconds.toFixed(2)} s, idle ${mebibytes(idleRssBytes)}`,
    `longest stall of the event loop: ${sweepStallMs.toFixed(0)} ms with a sweep a second, ${idleStallMs.toFixed(0)} ms without`,
    table(["", "p50", "p99"], rows),
  ].join("\n");
}

function reportFollowers(result: FollowersResult): string {
  const { followers, before, caughtUp, samples, expected, delivered, perFollowerCaughtUp, perFollowerSteady } = result;
  const rows = samples
    .filter((_, i) => samples.length <= 12 || i % Math.ceil(samples.length / 12) === 0 || i === samples.length - 1)
    .map((sample) => [
      `${sample.seconds.toFixed(0)} s`,
      mebibytes(sample.rss),
      mebibytes(sample.heap),
      mebibytes(sample.external),
      String(sample.deliveries),
      `${sample.p50Ms} ms`,
      `${sample.p99Ms} ms`,
    ]);
  return [
    `${followers} followers: ${delivered} of ${expected} records delivered`,
    `memory: ${mebibytes(before.rss)} before, ${mebibytes(caughtUp.rss)} caught up (${kibibytes(perFollowerCaughtUp)} each), then ${kibibytes(perFollowerSteady)} each`,
    table(["", "RSS", "heap used", "external", "deliveries/s", "p50", "p99"], rows),
  ].join("\n");
}

function pagePanels({ pages }: StreamsResult): Panel[] {
  return [...new Set(pages.map(({ token }) => token))].map((token) => ({
    title: `ListStreams, a token that sees ${token}`,
    unit: "ms, p99",
    bars: pages
      .filter((page) => page.token === token)
      .map(({ pageSize, p99 }) => ({ label: `pages of ${pageSize}`, value: p99, text: p99.toFixed(1), ours: true })),
  }));
}

function memoryPanels({ followers, before, caughtUp, samples }: FollowersResult): Panel[] {
  const some = samples.filter((_, i) => i % Math.max(1, Math.floor(samples.length / 6)) === 0);
  const bar = (label: string, bytes: number) => ({ label, value: bytes, text: mebibytes(bytes), ours: true });
  return [
    {
      title: `Memory with ${followers} followers`,
      unit: "RSS",
      bars: [
        bar("before", before.rss),
        bar("caught up", caughtUp.rss),
        ...some.map(({ seconds, rss }) => bar(`after ${seconds.toFixed(0)} s`, rss)),
      ],
    },
  ];
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}

function kibibytes(bytes: number): string {
  return `${(bytes / 1024).toFixed(1)} KiB`;
}

function count(name: string, text: string | undefined, byDefault: number): number {
  const value = text === undefined ? byDefault : Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`${name} must be a whole number above 0, not "${text}"`);
  return value;
}
