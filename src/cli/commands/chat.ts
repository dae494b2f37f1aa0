import type { Command } from "commander";
import { userInfo } from "node:os";
import { clearLine, createInterface, cursorTo } from "node:readline";
import type { Interface } from "node:readline";
import { styleText } from "node:util";
import type { ReadRecord } from "../../client/index.ts";
import { nameHeader, runChat } from "../chat-session.ts";
import { CliError } from "../failure.ts";
import { terminalText } from "../output.ts";
import { recordJson, toText } from "../records.ts";
import { Retries } from "../retries.ts";
import { withClient } from "../session.ts";
import type { ClientSession } from "../session.ts";
import { openStdin } from "../stdin.ts";
import { findReadableStream } from "../streams.ts";
import { parseCount, parseWait } from "../values.ts";

export function chat(program: Command): void {
  const command = program
    .command("chat")
    .description("talk: lines typed go out, others' lines come in")
    .argument("<stream>", "name of the stream; it is created if it does not exist")
    .option("--name <text>", "who you are (default: your user name)")
    .option("--retry-for <duration>", "how long to try again when the server is away (default: for ever)")
    .option("--history <n>", "how many earlier lines to show", "10")
    .addHelpText(
      "after",
      `
Ctrl-D leaves, once every line is stored. It works without a terminal too.

Examples:
  $ sluice chat rooms/lobby --name ada
  $ echo "the build is green" | sluice chat rooms/lobby --name ci`,
    );
  withClient(command, run);
}

async function run({ client, config, out, args, flags, signal }: ClientSession): Promise<void> {
  const stream = args[0] as string;
  const name = nameOf(flags["name"]);
  const history = parseCount("--history", flags["history"]) ?? 10;
  if (config.httpVersion === "1.1") {
    throw new CliError(
      "usage",
      "a chat needs HTTP/2, because lines go both ways at once: leave --http-version 1.1 away",
    );
  }
  const stdin = openStdin();
  const retries = new Retries(out, parseWait("--retry-for", flags["retryFor"]));
  await retries.start(signal, () => findReadableStream(client, stream, signal));

  const onTerminal = stdin.isTTY && out.toTerminal && !out.json;
  const lines = createInterface(
    onTerminal ? { input: stdin, output: process.stdout, prompt: `${name}> ` } : { input: stdin, terminal: false },
  );
  if (onTerminal) {
    // In a terminal's raw mode Ctrl-C is a key.
    lines.on("SIGINT", () => process.kill(process.pid, "SIGINT"));
    out.note(`You are ${name} in ${stream}. Ctrl-D leaves.`);
    lines.prompt();
  }
  try {
    await runChat({
      client,
      stream,
      name,
      history,
      signal,
      input: prompted(lines, onTerminal),
      retries,
      async onRecord(record, own) {
        if (out.json) await out.result("", { ...recordJson(record), own });
        // What was typed stands there already.
        else if (own) return;
        else if (onTerminal) above(lines, lineOf(record));
        else await out.text(lineOf(record));
      },
    });
  } finally {
    lines.close();
    // The shell's prompt begins on a line of its own.
    if (onTerminal) process.stdout.write("\n");
  }
}

async function* prompted(lines: Interface, onTerminal: boolean): AsyncGenerator<string, void, undefined> {
  for await (const line of lines) {
    if (line.trim() !== "") yield line;
    if (onTerminal) lines.prompt();
  }
}

/** Prints a line above the one that is being typed. */
function above(lines: Interface, text: string): void {
  cursorTo(process.stdout, 0);
  clearLine(process.stdout, 0);
  process.stdout.write(`${text}\n`);
  lines.prompt(true);
}

function lineOf({ headers, data }: ReadRecord): string {
  const name = headers[nameHeader];
  const text = terminalText(toText(data));
  return name === undefined ? text : `${styleText("cyan", terminalText(name), { stream: process.stdout })}: ${text}`;
}

function nameOf(given: string | boolean | undefined): string {
  if (given !== undefined) {
    if (typeof given === "string" && given.length >= 1 && given.length <= 64 && terminalText(given) === given)
      return given;
    throw new CliError("usage", "--name must be a text of 1 to 64 characters without control characters");
  }
  try {
    return userInfo().username;
  } catch {
    // This user has no entry in the system's list.
    return "somebody";
  }
}
