import { fstatSync } from "node:fs";
import { CliError } from "./failure.ts";

/** Standard input. Throws if it is a directory: Node would take that for an empty one. */
export function openStdin(): NodeJS.ReadStream & { fd: 0 } {
  if (isDirectory(0)) throw new CliError("usage", "standard input is a directory: give a file, or a pipe with lines");
  return process.stdin;
}

function isDirectory(descriptor: number): boolean {
  try {
    return fstatSync(descriptor).isDirectory();
  } catch {
    // It is closed.
    return false;
  }
}
