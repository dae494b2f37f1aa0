import type { Command } from "commander";
import { formatBytes, formatDuration } from "../config.ts";
import type { OptionSpec } from "../config.ts";

type Specs = Readonly<Record<string, OptionSpec<unknown>>>;
/** Options as commander hands them over, by key, as text. */
export type Flags = Readonly<Record<string, string | boolean | undefined>>;

/** Gives a command one flag for each option; defaults, environment and checks stay with `config.ts`. */
export function addOptions(command: Command, heading: string, specs: Specs): void {
  command.optionsGroup(heading);
  for (const spec of Object.values(specs)) {
    command.option(`--${spec.flag} ${placeholder(spec)}`, describe(spec));
  }
}

function placeholder(spec: OptionSpec<unknown>): string {
  switch (spec.type.kind) {
    case "boolean":
      return "[true|false]";
    case "enum":
      return `<${spec.type.values.join("|")}>`;
    case "count":
      return "<n>";
    case "bytes":
      return "<size>";
    case "duration":
      return "<duration>";
    case "list":
      return "<list>";
    case "string":
      return "<text>";
  }
}

function describe(spec: OptionSpec<unknown>): string {
  const byDefault = showDefault(spec);
  return `${spec.help} (${byDefault === undefined ? "" : `default: ${byDefault}, `}env: ${spec.env})`;
}

function showDefault({ type, default: value }: OptionSpec<unknown>): string | undefined {
  if (value === undefined || (Array.isArray(value) && value.length === 0)) return undefined;
  if (type.kind === "duration") return formatDuration(value as number);
  if (type.kind === "bytes") return formatBytes(value as number);
  return JSON.stringify(value).replace(/[[\]"]/g, "");
}
