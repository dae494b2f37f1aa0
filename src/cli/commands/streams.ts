import { durationMs, timestampDate } from "@bufbuild/protobuf/wkt";
import type { Command } from "commander";
import { createInterface } from "node:readline/promises";
import type { StreamInfo, StreamRetention } from "../../client/index.ts";
import { formatBytes, formatDuration } from "../../config.ts";
import { CliError } from "../failure.ts";
import { formatCount, formatFields, formatSize, formatTable, plural, toHex } from "../format.ts";
import { terminalText } from "../output.ts";
import { withClient } from "../session.ts";
import type { ClientSession } from "../session.ts";
import { streamJson } from "../streams.ts";
import { oneEach, parseCount, parseEntries, parseSha256, parseSize, parseWait } from "../values.ts";

export function streams(program: Command): void {
  const group = program.command("streams").description("list, describe, create, change, trim, seal and delete streams");
  const name = ["<stream>", "name of the stream"] as const;

  withClient(
    group
      .command("list")
      .description("list the streams that the token may read")
      .option("--prefix <text>", "only streams whose names begin with this", "")
      .addHelpText("after", examples("sluice streams list --prefix logs/")),
    list,
  );
  withClient(
    group
      .command("show")
      .description("describe one stream")
      .argument(...name)
      .addHelpText("after", examples("sluice streams show logs/host1 --json")),
    show,
  );
  withClient(
    group
      .command("create")
      .description("create an empty stream")
      .argument(...name)
      .option("--max-age <duration>", "remove records that are older, such as 7d")
      .option("--max-bytes <size>", "remove the oldest records while the stream is larger, such as 1GiB")
      .option("--max-records <n>", "remove the oldest records while there are more")
      .option("--metadata <key=value>", "what to say about the stream; may be given again", oneEach)
      .addHelpText(
        "after",
        examples(
          "sluice streams create logs/host1 --max-age 7d --max-bytes 1GiB",
          "sluice streams create photos/1 --metadata content-type=image/png",
        ),
      ),
    create,
  );
  withClient(
    group
      .command("set")
      .description("change which records a stream keeps; what is not given stays")
      .argument(...name)
      .option("--max-age <duration>", "remove records that are older, such as 7d; none for no limit")
      .option("--max-bytes <size>", "remove the oldest records while the stream is larger; none for no limit")
      .option("--max-records <n>", "remove the oldest records while there are more; none for no limit")
      .addHelpText("after", examples("sluice streams set logs/host1 --max-age 30d --max-bytes none")),
    set,
  );
  withClient(
    group
      .command("trim")
      .description("remove the oldest records")
      .argument(...name)
      .argument("<before-seq>", "every record below this seq is removed")
      .addHelpText("after", examples("sluice streams trim logs/host1 1000")),
    trim,
  );
  withClient(
    group
      .command("seal")
      .description("end a stream: nothing can be appended any more")
      .argument(...name)
      .option("--sha256 <hex>", "only if this is the SHA-256 of the data of all its records")
      .option("--expected-seq <n>", "only if this is its tail")
      .addHelpText("after", examples("sluice streams seal logs/host1")),
    seal,
  );
  withClient(
    group
      .command("delete")
      .description("remove a stream and its records; on a terminal it asks first")
      .argument(...name)
      .option("-y, --yes", "do not ask")
      .addHelpText("after", examples("sluice streams delete logs/host1 --yes")),
    remove,
  );
}

function examples(...lines: string[]): string {
  return ["", "Examples:", ...lines.map((line) => `  $ ${line}`)].join("\n");
}

async function list({ client, out, flags, signal }: ClientSession): Promise<void> {
  const rows: string[][] = [];
  for await (const stream of client.data.listStreams({ prefix: String(flags["prefix"]), signal })) {
    // A program gets each as it comes; columns need all of them.
    if (out.json) await out.result("", streamJson(stream));
    else
      rows.push([stream.name, formatCount(stream.tail - stream.head), formatSize(Number(stream.bytes)), state(stream)]);
  }
  if (rows.length > 0) await out.text(formatTable(["STREAM", "RECORDS", "SIZE", "STATE"], rows));
  else if (!out.json) out.note("no streams");
}

async function show({ client, out, args, signal }: ClientSession): Promise<void> {
  const stream = await client.data.getStream(args[0] as string, { signal });
  await out.result(describe(stream), streamJson(stream));
}

async function create({ client, out, args, flags, signal }: ClientSession): Promise<void> {
  const stream = await client.data.createStream(args[0] as string, {
    retention: limitsOf(flags),
    metadata: parseEntries("--metadata", flags["metadata"]),
    signal,
  });
  await out.result(`created ${stream.name}`, streamJson(stream));
}

async function set({ client, out, args, flags, signal }: ClientSession): Promise<void> {
  const limits = limitsOf(flags);
  if (Object.keys(limits).length === 0) {
    throw new CliError("usage", "nothing to change: give --max-age, --max-bytes or --max-records");
  }
  const stream = await client.data.updateStream(args[0] as string, { retention: limits, signal });
  await out.result(`${stream.name} now keeps ${retention(stream)}`, streamJson(stream));
}

/** The limits that are given; "none" is 0, for no limit. */
function limitsOf(flags: ClientSession["flags"]): StreamRetention {
  const given = (name: string): ClientSession["flags"][string] => (flags[name] === "none" ? "0" : flags[name]);
  const maxAgeMs = parseWait("--max-age", given("maxAge"));
  const maxBytes = parseSize("--max-bytes", given("maxBytes"));
  const maxRecords = parseCount("--max-records", given("maxRecords"));
  return {
    ...(maxAgeMs === undefined ? {} : { maxAgeMs }),
    ...(maxBytes === undefined ? {} : { maxBytes }),
    ...(maxRecords === undefined ? {} : { maxRecords }),
  };
}

async function trim({ client, out, args, signal }: ClientSession): Promise<void> {
  const beforeSeq = parseCount("<before-seq>", args[1] as string) ?? 0;
  const stream = await client.data.trimStream(args[0] as string, BigInt(beforeSeq), { signal });
  await out.result(
    `${stream.name} now begins at seq ${stream.head} and has ${plural(stream.tail - stream.head, "record")}`,
    streamJson(stream),
  );
}

async function seal({ client, out, args, flags, signal }: ClientSession): Promise<void> {
  const sha256 = parseSha256("--sha256", flags["sha256"]);
  const expectedSeq = parseCount("--expected-seq", flags["expectedSeq"]);
  const stream = await client.data.sealStream(args[0] as string, {
    ...(sha256 === undefined ? {} : { sha256 }),
    ...(expectedSeq === undefined ? {} : { expectedSeq: BigInt(expectedSeq) }),
    signal,
  });
  await out.result(`sealed ${stream.name} at seq ${stream.tail}`, streamJson(stream));
}

async function remove({ client, out, args, flags, signal }: ClientSession): Promise<void> {
  const name = args[0] as string;
  if (flags["yes"] !== true && process.stdin.isTTY && process.stderr.isTTY) {
    const stream = await client.data.getStream(name, { signal });
    const records = plural(stream.tail - stream.head, "record");
    const prompt = createInterface({ input: process.stdin, output: process.stderr });
    // In a terminal's raw mode Ctrl-C is a key.
    prompt.on("SIGINT", () => process.kill(process.pid, "SIGINT"));
    try {
      const answer = await prompt.question(`Delete ${name} with its ${records}? [y/N] `, { signal });
      if (!/^y(es)?$/i.test(answer.trim())) throw new CliError("failure", "not deleted");
    } finally {
      prompt.close();
    }
  }
  await client.data.deleteStream(name, { signal });
  await out.result(`deleted ${name}`, { name, deleted: true });
}

function state({ sealed }: StreamInfo): string {
  return sealed ? "sealed" : "open";
}

function describe(stream: StreamInfo): string {
  const time = (at: StreamInfo["createTime"]): string => (at === undefined ? "never" : timestampDate(at).toISOString());
  const fields: [string, string][] = [
    ["stream", stream.name],
    ["uid", stream.uid],
    ["state", state(stream)],
    ["head", String(stream.head)],
    ["tail", String(stream.tail)],
    ["records", formatCount(stream.tail - stream.head)],
    ["size", `${formatSize(Number(stream.bytes))} (${formatCount(stream.bytes)} bytes)`],
    ["created", time(stream.createTime)],
    ["appended", time(stream.appendTime)],
    ["keeps", retention(stream)],
    ...Object.entries(stream.metadata).map(([key, value]): [string, string] => [
      `metadata ${key}`,
      terminalText(value),
    ]),
  ];
  if (stream.sha256.length > 0) {
    fields.push(["sha256", `${toHex(stream.sha256)} (from seq ${stream.sha256FirstSeq})`]);
  }
  return formatFields(fields);
}

function retention({ retention: limits }: StreamInfo): string {
  const kept: string[] = [];
  if (limits?.maxAge !== undefined && durationMs(limits.maxAge) > 0) {
    kept.push(`records of the last ${formatDuration(durationMs(limits.maxAge))}`);
  }
  if (limits !== undefined && limits.maxBytes > 0n) kept.push(`up to ${formatBytes(Number(limits.maxBytes))}`);
  if (limits !== undefined && limits.maxRecords > 0n) kept.push(`up to ${plural(limits.maxRecords, "record")}`);
  return kept.length === 0 ? "every record" : kept.join(", ");
}
