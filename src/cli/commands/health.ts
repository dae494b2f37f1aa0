import type { Command } from "commander";
import { HealthCheckResponse_ServingStatus as Status } from "../../../gen/grpc/health/v1/health_pb.ts";
import type { ExitName } from "../exit-codes.ts";
import { withClient } from "../session.ts";
import type { ClientSession } from "../session.ts";

export function health(program: Command): void {
  const command = program
    .command("health")
    .description("ask whether the server serves: exit code 0 if so, else 5")
    .argument("[service]", "such as data.v1.DataService; none for the whole server", "")
    .option("--watch", "go on, and print each change")
    .addHelpText("after", "\nExamples:\n  $ sluice health\n  $ sluice health data.v1.DataService --watch");
  withClient(command, run);
}

async function run({ client, out, args, flags, signal, endWithReader }: ClientSession): Promise<ExitName | undefined> {
  const service = args[0] as string;
  const show = async (status: Status): Promise<void> => {
    const name = nameOf(status);
    await out.result(name, { service, status: name });
  };
  if (flags["watch"] === true) {
    endWithReader();
    for await (const { status } of client.health.watch({ service }, { signal })) await show(status);
    return undefined;
  }
  const { status } = await client.health.check({ service }, { signal });
  await show(status);
  return status === Status.SERVING ? undefined : "unavailable";
}

function nameOf(status: Status): string {
  return Object.entries(Status).find(([, value]) => value === status)?.[0] ?? String(status);
}
