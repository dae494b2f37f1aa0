/** Writes docs/configuration.md from src/config.ts. `npm run docs` */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { backupOptions, clientOptions, formatBytes, formatDuration, serverOptions } from "../src/config.ts";
import type { OptionSpec } from "../src/config.ts";

export function configurationDocs(): string {
  return `# Configuration

<!-- Written by \`npm run docs\` from src/config.ts. -->

A flag wins over its environment variable, and that over the default. An empty variable counts as unset.
Durations are written \`250ms\`, \`10s\`, \`5m\`, \`1h\` or \`7d\`; sizes \`65536\`, \`64KiB\`, \`4MiB\` or \`1GiB\`.

## The server: \`sluice serve\`

${table(serverOptions)}

## Client commands

${table(clientOptions)}

## \`sluice backup\` and \`sluice restore\`

${table(backupOptions)}
`;
}

function table(specs: Readonly<Record<string, OptionSpec<unknown>>>): string {
  const rows = Object.values(specs).map((spec) => {
    const cells = [`\`--${spec.flag}\``, `\`${spec.env}\``, show(spec), spec.help.replaceAll("|", "\\|")];
    return `| ${cells.join(" | ")} |`;
  });
  return ["| Flag | Variable | Default | |", "| --- | --- | --- | --- |", ...rows].join("\n");
}

function show({ type, default: value }: OptionSpec<unknown>): string {
  if (value === undefined) return "";
  if (type.kind === "bytes") return `\`${formatBytes(value as number)}\``;
  if (type.kind === "duration") return `\`${formatDuration(value as number)}\``;
  if (Array.isArray(value)) return value.length === 0 ? "" : value.map((item) => `\`${String(item)}\``).join(", ");
  return `\`${JSON.stringify(value).replaceAll('"', "")}\``;
}

if (import.meta.main) {
  writeFileSync(join(import.meta.dirname, "../docs/configuration.md"), configurationDocs());
}
