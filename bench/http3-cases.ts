import { sizeName, sizes } from "./cases.ts";

export interface Http3Case {
  readonly shape: "upload" | "download";
  /** Bytes of data in a message. */
  readonly size: number;
  readonly streams: number;
}

const fullMatrix: readonly Http3Case[] = (["upload", "download"] as const).flatMap((shape) =>
  [sizes["64KiB"], sizes["100B"]].flatMap((size) => [1, 100].map((streams) => ({ shape, size, streams }))),
);

export function http3CaseName({ shape, size, streams }: Http3Case): string {
  return `${shape}/${sizeName(size)}/${streams}`;
}

/** The cases that a pattern of `only` matches, where `*` stands for anything, also at the end. */
export function selectHttp3Cases(only: readonly string[], quick: boolean): readonly Http3Case[] {
  // Bytes on one stream, messages on many.
  const matrix = quick
    ? fullMatrix.filter(({ size, streams }) => (size === sizes["64KiB"]) === (streams === 1))
    : fullMatrix;
  if (only.length === 0) return matrix;
  const patterns = only.map((pattern) => new RegExp(`^${pattern.replaceAll("*", "[^/]*")}(/|$)`));
  const selected = fullMatrix.filter((what) => patterns.some((pattern) => pattern.test(http3CaseName(what))));
  if (selected.length === 0) throw new Error(`--only ${only.join(",")} matches no case`);
  return selected;
}
