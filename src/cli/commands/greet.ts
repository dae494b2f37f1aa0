import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Option } from "commander";
import type { Command } from "commander";
import type { SluiceClient } from "../../client/index.ts";
import { parseCount, parseWait } from "../values.ts";
import { withClient } from "../session.ts";
import type { ClientSession } from "../session.ts";

const shapes = ["unary", "all", "repeatedly", "each"] as const;
type Shape = (typeof shapes)[number];

export function greet(program: Command): void {
  const command = program
    .command("greet")
    .description("call greet.v1.GreetService, to see each shape of RPC")
    .argument("<name...>", "who to greet")
    .addOption(
      new Option(
        "--shape <shape>",
        "unary: a call a name; all: one greeting for all (client streaming); repeatedly: the same again (server streaming); each: answered one by one (bidi)",
      )
        .choices(shapes)
        .default("unary"),
    )
    .option("--times <n>", "how many greetings, with --shape repeatedly (default: 3)")
    .option("--interval <duration>", "wait between them, with --shape repeatedly (default: 0)")
    .addHelpText(
      "after",
      `
Examples:
  $ sluice greet Ada
  $ sluice greet Ada Grace Edsger --shape all
  $ sluice greet Ada --shape repeatedly --times 5 --interval 1s
  $ sluice greet Ada Grace --shape each --protocol grpc`,
    );
  withClient(command, run);
}

async function run({ client, out, args, flags, signal, endWithReader }: ClientSession): Promise<void> {
  const names = args[0] as string[];
  const shape = flags["shape"] as Shape;
  const times = parseCount("--times", flags["times"], { min: 1, max: 1_000_000 }) ?? 3;
  const intervalMs = parseWait("--interval", flags["interval"]) ?? 0;
  endWithReader();
  for await (const greeting of greetings(client, { shape, names, times, intervalMs, signal })) {
    await out.result(greeting, { greeting });
  }
}

interface GreetPlan {
  readonly shape: Shape;
  readonly names: readonly string[];
  readonly times: number;
  readonly intervalMs: number;
  readonly signal: AbortSignal;
}

async function* greetings({ greet }: SluiceClient, plan: GreetPlan): AsyncGenerator<string, void, undefined> {
  const { names, times, signal } = plan;
  switch (plan.shape) {
    case "unary":
      for (const name of names) yield (await greet.greet({ name }, { signal })).greeting;
      return;
    case "all":
      yield (await greet.greetAll(requests(names), { signal })).greeting;
      return;
    case "repeatedly":
      for (const name of names) {
        const request = { name, times, interval: durationFromMs(plan.intervalMs) };
        for await (const { greeting } of greet.greetRepeatedly(request, { signal })) yield greeting;
      }
      return;
    case "each":
      for await (const { greeting } of greet.greetEach(requests(names), { signal })) yield greeting;
  }
}

async function* requests(names: readonly string[]): AsyncGenerator<{ name: string }, void, undefined> {
  for (const name of names) yield { name };
}
