import { resolve } from "node:path";
import { parseArgs } from "node:util";

export interface Options {
  readonly quick: boolean;
  readonly only: readonly string[];
  readonly contenders: readonly string[];
  /** Directory of another checkout, whose servers are contenders too. */
  readonly before: string | undefined;
  readonly rounds: number;
  /** Seconds of a measurement. */
  readonly seconds: number;
  /** Seconds before it. */
  readonly warmup: number;
  /** Threads of the load client. */
  readonly procs: number;
  /** Undefined takes Go's where Go is. */
  readonly client: "go" | "node" | undefined;
  readonly nodeOptions: readonly string[];
  /** Name of the files in bench/results. */
  readonly name: string;
}

/** Which benchmark is asked for. */
export type Benchmark = "streaming" | "data" | "http3" | "loss";

/** Seconds of a measurement. */
const timesOf: Readonly<Record<Benchmark, { readonly quick: number; readonly full: number }>> = {
  streaming: { quick: 0.4, full: 1.5 },
  http3: { quick: 0.4, full: 1.5 },
  // The disk's times vary more than those of sockets.
  data: { quick: 1, full: 3 },
  // Enough messages for a p99, at rates that such a link can carry.
  loss: { quick: 5, full: 60 },
};

export const usage = `npm run bench -- [options]        servers of streams
npm run bench:data -- [options]   durable append and replay
npm run bench:http3 -- [options]  HTTP/3, and HTTP/2 over TLS
npm run bench:loss -- [options]   both on a link that loses packets; needs root

  --quick                    a few cases, in two minutes
  --only SHAPE/SIZE/STREAMS  such as download/100B/1, download, or "*/64KiB"; more than once if need be
  --contenders A,B           which servers; sluice-server only runs when it is named
  --before DIR               a checkout of another state, installed: its servers are \`before\` and \`before-server\`
  --rounds N                 how often each case is measured
  --seconds S                how long each measurement takes
  --warmup S                 how long each runs before that
  --client go|node           the load client; node without Go
  --procs N                  threads of the load client (GOMAXPROCS)
  --node-option OPTION       for the servers on Node, such as --cpu-prof; more than once if need be
  --name NAME                of the files in bench/results
`;

/** Reads the command line. Undefined if it asks for help. */
export function parseOptions(benchmark: Benchmark, args: readonly string[]): Options | undefined {
  const { values } = parseArgs({
    args: [...args],
    options: {
      help: { type: "boolean", short: "h" },
      quick: { type: "boolean", default: false },
      only: { type: "string", multiple: true, default: [] },
      contenders: { type: "string", default: "" },
      before: { type: "string" },
      rounds: { type: "string" },
      seconds: { type: "string" },
      warmup: { type: "string" },
      procs: { type: "string" },
      client: { type: "string" },
      "node-option": { type: "string", multiple: true, default: [] },
      name: { type: "string" },
    },
  });
  if (values.help === true) return undefined;
  const { client } = values;
  if (client !== undefined && client !== "go" && client !== "node") {
    throw new Error(`--client must be go or node, not "${client}"`);
  }
  const times = timesOf[benchmark];
  const only = values.only.flatMap(list);
  const contenders = list(values.contenders);
  const partial = only.length > 0 || contenders.length > 0;
  return {
    quick: values.quick,
    only,
    contenders,
    before: values.before === undefined ? undefined : resolve(values.before),
    rounds: number("--rounds", values.rounds, values.quick ? 2 : 5),
    seconds: number("--seconds", values.seconds, values.quick ? times.quick : times.full),
    warmup: number("--warmup", values.warmup, values.quick ? 0.2 : 0.7),
    // Of 1, 2 and 3, the best on two cores: the server needs the other one.
    procs: number("--procs", values.procs, 1),
    client,
    nodeOptions: values["node-option"],
    name: values.name ?? (partial ? `partial-${benchmark}` : values.quick ? `quick-${benchmark}` : benchmark),
  };
}

function list(text: string): string[] {
  return text
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");
}

function number(name: string, text: string | undefined, byDefault: number): number {
  if (text === undefined) return byDefault;
  const value = Number(text);
  if (!(value > 0) || value > 3600) throw new Error(`${name} must be a number above 0, not "${text}"`);
  return value;
}
