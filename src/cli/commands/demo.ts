import type { Command } from "commander";
import { withSession } from "../session.ts";

export function demo(program: Command): void {
  const command = program
    .command("demo")
    .description("start a server of its own, call every method over every protocol, and show what came and how fast")
    .addHelpText(
      "after",
      `
The server runs in this process, stores on disk (in a temporary directory that is
removed again) and shares the machine with the client: it shows what works, and is
no benchmark.

Examples:
  $ sluice demo
  $ sluice demo --json`,
    );
  withSession(command, async (session) => {
    // Loaded here, because the other commands start faster without the whole server.
    const { runDemo } = await import("../demo.ts");
    await runDemo(session);
  });
}
