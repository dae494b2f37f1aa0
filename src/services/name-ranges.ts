import type { NameRange } from "../store/store.ts";

/** Behind every character of a stream's name, which is ASCII. */
const behindAll = "\x7f";

/** The names that begin with the prefix. */
export function prefixRange(prefix: string): NameRange {
  return { from: prefix, to: prefix + behindAll };
}

/** The names that the patterns (a NAME, or `PREFIX*`) stand for: in order and disjoint, as few ranges as possible. */
export function rangesOf(patterns: readonly string[]): NameRange[] {
  const ranges = patterns
    // Nothing can come between a name and the first one behind it.
    .map((name) => (name.endsWith("*") ? prefixRange(name.slice(0, -1)) : { from: name, to: `${name}\0` }))
    .sort((a, b) => (a.from < b.from ? -1 : a.from > b.from ? 1 : 0));
  const merged: NameRange[] = [];
  for (const range of ranges) {
    const last = merged.at(-1);
    if (last === undefined || range.from > last.to) merged.push(range);
    else if (range.to > last.to) merged[merged.length - 1] = { from: last.from, to: range.to };
  }
  return merged;
}

/** What the ranges have in common with `limit`, in the same order. */
export function within(ranges: readonly NameRange[], limit: NameRange): NameRange[] {
  return ranges
    .map(({ from, to }) => ({ from: from > limit.from ? from : limit.from, to: to < limit.to ? to : limit.to }))
    .filter(({ from, to }) => from < to);
}
