import type { Command } from "commander";
import { onAbort } from "../../async/signals.ts";
import { parseServerConfig, serverOptions } from "../../config.ts";
import { onNpmGone } from "../npm-parent.ts";
import { onUncaught } from "../uncaught.ts";
import { addOptions } from "../options.ts";
import { withSession } from "../session.ts";
import type { Session } from "../session.ts";

export function serve(program: Command): void {
  const command = program
    .command("serve")
    .description("run a server")
    .addHelpText(
      "after",
      `
The first line on standard output is "sluice listening on URL", once it is ready;
with --http3 a second one has the UDP port.
SIGTERM and Ctrl-C drain: calls in progress may finish; a second one ends at once.
A supervisor starts it without npm (\`node bin/sluice.js serve\` in a checkout), so
that its signals reach the server itself.
SIGHUP reads the tokens file, the JWKS and the TLS certificate again.

Examples:
  $ sluice serve --port 0 --store memory
  $ sluice cert && sluice serve --tls-cert cert.pem --tls-key key.pem
  $ sluice serve --host 0.0.0.0 --tokens-file tokens.json`,
    );
  withSession(command, run);
  addOptions(command, "Server:", serverOptions);
}

async function run({ out, flags, signal }: Session): Promise<"ok" | "failure"> {
  const config = parseServerConfig(flags, process.env);
  // Loaded here, because the other commands start faster without the whole server.
  const [{ start }, { createLogger }] = await Promise.all([import("../../compose.ts"), import("../../observe/log.ts")]);
  const log = createLogger(config.logLevel);
  process.once("exit", () => {
    log.flush();
  });
  const server = await start(config, { log });
  const uncaught = onUncaught((error) => {
    log.fatal({ err: error }, "an error that nothing caught: the server closes its store and exits with 1");
    return server.abort();
  });
  const onHangup = (): void => {
    // A failure is in the log already.
    server.reload().catch(() => undefined);
  };
  process.on("SIGHUP", onHangup);
  try {
    await out.write(`sluice listening on ${server.url}\n`);
    if (server.http3Port !== undefined) await out.write(`HTTP/3 on UDP port ${server.http3Port}\n`);
    if (out.toTerminal) {
      out.note(`Ctrl-C stops it. From another terminal: sluice greet Ada --url ${server.url}`);
    }
    await Promise.race([ending(signal, out), uncaught.happened, aborted(server.broken)]);
  } finally {
    process.off("SIGHUP", onHangup);
    await server.close();
    uncaught.stop();
  }
  return uncaught.count === 0 && !server.broken.aborted ? "ok" : "failure";
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    onAbort(signal, () => {
      resolve();
    });
  });
}

/** Resolves when the server is to end: at a signal, or when the npm that has started it is gone. */
async function ending(signal: AbortSignal, out: Session["out"]): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const forget = onNpmGone(process.env, () => {
    out.note("npm has ended: the server drains and ends too");
    resolve(undefined);
  });
  onAbort(signal, () => {
    resolve(undefined);
  });
  await promise;
  forget();
}
