import { sizeName, sizes } from "./cases.ts";

export interface DataCase {
  readonly shape: "append" | "append-batched" | "replay";
  /** Bytes of data in a record. */
  readonly size: number;
  readonly streams: number;
  /** Records that are appended together. */
  readonly batch: number;
  /** Records of all streams that wait for their acknowledgement. */
  readonly pending: number;
  /** Records of all streams that are there to be replayed. */
  readonly stored: number;
}

const small = { size: sizes["100B"], pending: 10_000, stored: 100_000 };
const large = { size: sizes["64KiB"], pending: 64, stored: 2_000 };

const fullMatrix: readonly DataCase[] = [
  { shape: "append", streams: 1, batch: 1, ...small },
  { shape: "append-batched", streams: 1, batch: 100, ...small },
  { shape: "append", streams: 1, batch: 1, ...small, size: sizes["1KiB"] },
  { shape: "append", streams: 1, batch: 1, ...large },
  // Each of many streams waits for its acknowledgement before it goes on.
  { shape: "append", streams: 1000, batch: 1, ...small, pending: 1000 },
  { shape: "append-batched", streams: 1000, batch: 10, ...small },
  { shape: "replay", streams: 1, batch: 100, ...small },
  { shape: "replay", streams: 1, batch: 10, ...large },
  { shape: "replay", streams: 1000, batch: 100, ...small },
];

export function dataCaseName({ shape, size, streams }: DataCase): string {
  return `${shape}/${sizeName(size)}/${streams}`;
}

/** The cases that a pattern of `only` matches, where `*` stands for anything, also at the end. */
export function selectDataCases(only: readonly string[], quick: boolean): readonly DataCase[] {
  const matrix = quick ? fullMatrix.filter(({ size }) => size === small.size) : fullMatrix;
  if (only.length === 0) return matrix;
  const patterns = only.map((pattern) => new RegExp(`^${pattern.replaceAll("*", "[^/]*")}(/|$)`));
  const selected = matrix.filter((what) => patterns.some((pattern) => pattern.test(dataCaseName(what))));
  if (selected.length === 0) throw new Error(`--only ${only.join(",")} matches no case`);
  return selected;
}
