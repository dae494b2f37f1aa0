/** How numbers and tables look to people. */

/** 1234567 -> `1.2 MB`. Powers of ten, as disks and networks are measured. */
export function formatSize(bytes: number): string {
  let value = bytes;
  for (const unit of ["B", "kB", "MB", "GB", "TB", "PB"]) {
    if (value < 999.5 || unit === "PB") return `${unit === "B" ? Math.round(value) : value.toPrecision(3)} ${unit}`;
    value /= 1000;
  }
  return "";
}

/** 1234567 -> `1,234,567`. */
export function formatCount(count: number | bigint): string {
  return count.toLocaleString("en-US");
}

/** `1 record`, `2 records`. */
export function plural(count: number | bigint, noun: string): string {
  return `${formatCount(count)} ${noun}${Number(count) === 1 ? "" : "s"}`;
}

/** Columns under a header, two spaces apart; columns whose cells are all numeric are aligned to the right. */
export function formatTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const numeric = header.map((_, i) => rows.length > 0 && rows.every((row) => /^[\d.,]*( \w*B)?$/.test(row[i] ?? "")));
  const widths = header.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) => (numeric[i] === true ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join("  ")
      .trimEnd();
  return [header, ...rows].map(line).join("\n");
}

/** `name: value` lines with the values below each other. */
export function formatFields(fields: readonly (readonly [string, string])[]): string {
  const width = Math.max(...fields.map(([name]) => name.length)) + 1;
  return fields.map(([name, value]) => `${`${name}:`.padEnd(width)} ${value}`).join("\n");
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
