import { join } from "node:path";

/** A server of BenchService, in a process of its own. */
export interface Contender {
  readonly name: string;
  /** What it stands for in the report. */
  readonly title: string;
  readonly command: (nodeOptions: readonly string[]) => readonly [string, ...string[]];
  readonly needsGo: boolean;
  /** Sent as `acme-token`. */
  readonly token?: string;
  /** Runs only when it is asked for. */
  readonly optional?: true;
}

/** Where Go's programs are built. */
export const buildDir = join(import.meta.dirname, ".build");

function node(script: string, checkout = join(import.meta.dirname, "..")): Pick<Contender, "command" | "needsGo"> {
  return {
    command: (nodeOptions) => [process.execPath, ...nodeOptions, join(checkout, "bench/servers", script)],
    needsGo: false,
  };
}

function go(program: string): Pick<Contender, "command" | "needsGo"> {
  return { command: () => [join(buildDir, program)], needsGo: true };
}

/** The one that the others are compared with stands first. */
export const contenders: readonly Contender[] = [
  { name: "sluice", title: "Sluice", ...node("sluice.ts") },
  { name: "connect-node", title: "connect-node as shipped", ...node("connect-node.ts") },
  { name: "grpc-js", title: "@grpc/grpc-js", ...node("grpc-js.ts") },
  { name: "http2", title: "node:http2 alone", ...node("http2.ts") },
  { name: "connect-go", title: "connect-go", ...go("connectserver") },
  { name: "grpc-go", title: "grpc-go", ...go("grpcserver") },
  {
    name: "sluice-server",
    title: "Sluice, a whole server",
    ...node("sluice-server.ts"),
    token: "sample",
    optional: true,
  },
];

/** Sluice as it stands in another checkout, which has its own node_modules. */
function fromCheckout(before: string): readonly Contender[] {
  return [
    { name: "before", title: `Sluice of ${before}`, ...node("sluice.ts", before) },
    {
      name: "before-server",
      title: `Sluice of ${before}, a whole server`,
      ...node("sluice-server.ts", before),
      token: "sample",
      optional: true,
    },
  ];
}

/** Those that are named, in their usual order, as the first is compared; or all, where none is named. */
export function namedIn<T extends { readonly name: string }>(
  all: readonly T[],
  names: readonly string[],
): readonly T[] {
  const known = all.map(({ name }) => name);
  for (const name of names) {
    if (!known.includes(name)) throw new Error(`--contenders ${name}: there are ${known.join(", ")}`);
  }
  return all.filter(({ name }) => names.length === 0 || names.includes(name));
}

/** Those that are named, or every one that is not optional. `before` is the directory of another checkout. */
export function selectContenders(
  names: readonly string[],
  hasGo: boolean,
  before?: string,
): { chosen: readonly Contender[]; missing: readonly Contender[] } {
  const all = before === undefined ? contenders : [...contenders, ...fromCheckout(before)];
  const wanted = namedIn(all, names).filter(({ optional }) => names.length > 0 || optional !== true);
  return {
    chosen: wanted.filter(({ needsGo }) => hasGo || !needsGo),
    missing: wanted.filter(({ needsGo }) => needsGo && !hasGo),
  };
}
