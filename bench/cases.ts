/** What is measured: which call, with which messages, how many at once. */
export interface Case {
  readonly shape: Shape;
  /** Bytes of data in a message. */
  readonly size: number;
  readonly streams: number;
}

/**
 * A client may send each small message in a DATA frame of its own, as grpc-go
 * does, and then a server's cost for a frame hides its cost for a message; or
 * it may join them, as gRPC's C core and Sluice's client do: the -joined shapes.
 */
export const shapes = ["upload", "upload-joined", "download", "bidi", "bidi-joined", "pingpong", "unary"] as const;
export type Shape = (typeof shapes)[number];

export const sizes = { "16B": 16, "100B": 100, "1KiB": 1024, "64KiB": 65_536, "1MiB": 1_048_576 } as const;

/** Not every combination: each size on one stream, and many streams where messages are small. */
const fullMatrix: readonly Case[] = [
  ...(["upload", "download", "bidi"] as const).flatMap((shape) => [
    ...Object.values(sizes).map((size) => ({ shape, size, streams: 1 })),
    { shape, size: sizes["100B"], streams: 10 },
    { shape, size: sizes["64KiB"], streams: 10 },
    { shape, size: sizes["100B"], streams: 1000 },
  ]),
  ...(["upload-joined", "bidi-joined"] as const).flatMap((shape) => [
    { shape, size: sizes["16B"], streams: 1 },
    { shape, size: sizes["100B"], streams: 1 },
    { shape, size: sizes["1KiB"], streams: 1 },
    { shape, size: sizes["100B"], streams: 1000 },
  ]),
  { shape: "pingpong", size: sizes["100B"], streams: 1 },
  { shape: "pingpong", size: sizes["64KiB"], streams: 1 },
  { shape: "pingpong", size: sizes["100B"], streams: 10 },
  { shape: "pingpong", size: sizes["100B"], streams: 1000 },
  { shape: "unary", size: sizes["100B"], streams: 1 },
  { shape: "unary", size: sizes["100B"], streams: 10 },
  { shape: "unary", size: sizes["1KiB"], streams: 10 },
  { shape: "unary", size: sizes["64KiB"], streams: 10 },
  { shape: "unary", size: sizes["100B"], streams: 1000 },
];

/** One of each kind that a target speaks of. */
const quickMatrix: readonly Case[] = [
  { shape: "upload", size: sizes["100B"], streams: 1 },
  { shape: "upload-joined", size: sizes["100B"], streams: 1 },
  { shape: "download", size: sizes["100B"], streams: 1 },
  { shape: "bidi", size: sizes["100B"], streams: 1 },
  { shape: "pingpong", size: sizes["100B"], streams: 1 },
  { shape: "upload", size: sizes["64KiB"], streams: 1 },
  { shape: "download", size: sizes["64KiB"], streams: 1 },
  { shape: "download", size: sizes["100B"], streams: 1000 },
  { shape: "unary", size: sizes["100B"], streams: 10 },
];

/**
 * The cases to run. `only` holds patterns such as `download/100B/1`, of which
 * each part may be left out at the end or be `*`; they choose from every
 * combination, not just from the matrix, once they name all three parts.
 */
export function selectCases(only: readonly string[], quick: boolean): readonly Case[] {
  const matrix = quick ? quickMatrix : fullMatrix;
  if (only.length === 0) return matrix;
  const selected = only.flatMap((pattern) => {
    const [shape = "*", size = "*", streams = "*", ...rest] = pattern.split("/");
    if (rest.length > 0) throw new Error(`--only ${pattern}: it is shape/size/streams, such as download/100B/1`);
    const exact = exactCase(shape, size, streams);
    const found = exact === undefined ? matrix.filter((c) => matches(c, shape, size, streams)) : [exact];
    if (found.length === 0) throw new Error(`--only ${pattern} matches no case`);
    return found;
  });
  return [...new Map(selected.map((c) => [caseName(c), c])).values()];
}

function exactCase(shape: string, size: string, streams: string): Case | undefined {
  const known = shapes.find((s) => s === shape);
  const bytes = parseSize(size);
  const count = /^\d+$/.test(streams) ? Number(streams) : 0;
  return known !== undefined && bytes !== undefined && count > 0
    ? { shape: known, size: bytes, streams: count }
    : undefined;
}

function matches(c: Case, shape: string, size: string, streams: string): boolean {
  return (
    (shape === "*" || shape === c.shape) &&
    (size === "*" || parseSize(size) === c.size) &&
    (streams === "*" || streams === String(c.streams))
  );
}

function parseSize(text: string): number | undefined {
  const match = /^(\d{1,9})(B|KiB|MiB)?$/.exec(text);
  if (match === null) return undefined;
  return Number(match[1]) * { B: 1, KiB: 1024, MiB: 1_048_576 }[(match[2] ?? "B") as "B" | "KiB" | "MiB"];
}

export function sizeName(size: number): string {
  if (size % 1_048_576 === 0) return `${size / 1_048_576}MiB`;
  return size % 1024 === 0 ? `${size / 1024}KiB` : `${size}B`;
}

/** `download/100B/1`, as `--only` takes it. */
export function caseName({ shape, size, streams }: Case): string {
  return `${shape}/${sizeName(size)}/${streams}`;
}
