import type { NameRange } from "./store.ts";

/** All names: they consist of ASCII. */
export const everything: NameRange = { from: "", to: "\u{10ffff}" };

/** The index of the first range that has room for names behind `name`. */
export function firstBehind(ranges: readonly NameRange[], name: string): number {
  return firstIndex(ranges, ({ to }) => to > name);
}

/** The index of the first item that `holds` is true of, as it is for all later ones. */
export function firstIndex<T>(items: readonly T[], holds: (item: T) => boolean): number {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(items[middle] as T)) high = middle;
    else low = middle + 1;
  }
  return low;
}
