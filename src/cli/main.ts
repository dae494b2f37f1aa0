import { Command, CommanderError } from "commander";
import { backup } from "./commands/backup.ts";
import { cert } from "./commands/cert.ts";
import { chat } from "./commands/chat.ts";
import { demo } from "./commands/demo.ts";
import { greet } from "./commands/greet.ts";
import { health } from "./commands/health.ts";
import { pull } from "./commands/pull.ts";
import { push } from "./commands/push.ts";
import { restore } from "./commands/restore.ts";
import { serve } from "./commands/serve.ts";
import { store } from "./commands/store.ts";
import { streams } from "./commands/streams.ts";
import { tail } from "./commands/tail.ts";
import { exitCodes, exitCodesHelp } from "./exit-codes.ts";
import { packageVersion } from "./version.ts";

/** Runs `sluice` with the process's arguments, and ends the process. */
export async function main(argv: readonly string[]): Promise<void> {
  // Commands report what they cannot write; of --help and the like, nobody is left to be told.
  process.stdout.on("error", () => undefined);
  process.stderr.on("error", () => undefined);
  try {
    await createProgram(argv.includes("--json")).parseAsync(argv);
  } catch (error) {
    // Commander has told the user already.
    if (!(error instanceof CommanderError)) throw error;
    process.exitCode = error.exitCode === 0 ? exitCodes.ok.code : exitCodes.usage.code;
  }
  // Standard input may still be open: nothing waits for it any more.
  await flushed(process.stdout);
  await flushed(process.stderr);
  process.exit();
}

function createProgram(json: boolean): Command {
  const program = new Command("sluice")
    .description("Durable, resumable streams over Connect, gRPC and gRPC-Web: server and client.")
    .version(packageVersion())
    .showHelpAfterError("(--help shows how)")
    .exitOverride()
    .addHelpText(
      "after",
      `
Examples:
  $ sluice serve                       a server on http://127.0.0.1:8080
  $ sluice push backup/db.dump db.dump
  $ sluice pull backup/db.dump -o copy.dump
  $ journalctl -f | sluice push logs/host1 -
  $ sluice tail logs/host1

SLUICE_URL and SLUICE_TOKEN say which server to call, and with which token;
every other option has a variable too (see the --help of a command).

${exitCodesHelp()}`,
    );
  if (json) {
    program.configureOutput({
      outputError: (text, write) => {
        const error = text.trim().replace(/^error: /, "");
        write(`${JSON.stringify({ error, exit: exitCodes.usage.code })}\n`);
      },
    });
    program.showHelpAfterError(false);
  }
  for (const add of [serve, greet, push, pull, tail, chat, streams, health, store, backup, restore, cert, demo])
    add(program);
  return program;
}

function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    if (stream.destroyed || stream.errored) resolve();
    else
      stream.write("", () => {
        resolve();
      });
  });
}
