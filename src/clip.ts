/** Characters (UTF-16 code units) of a value from outside that a message shows, at most. */
const maxShown = 200;

/**
 * A value from outside as it may stand in a message: cut between two characters
 * if it is longer than a message needs, because messages leave in headers, which
 * clients limit.
 */
export function clip(value: string, longest = maxShown): string {
  if (value.length <= longest) return value;
  const last = value.charCodeAt(longest - 1);
  // Not between the two halves of a surrogate pair.
  return `${value.slice(0, last >= 0xd800 && last <= 0xdbff ? longest - 1 : longest)}…`;
}

/** The same in quotes. */
export function quote(value: string): string {
  return `"${clip(value)}"`;
}

/** What a peer has sent, clipped, and without what a terminal would act on: header values are Latin-1 at most. */
export function printable(value: string): string {
  return clip(value.replace(/[^\x20-\x7e\xa0-\xff]/g, "?"));
}
