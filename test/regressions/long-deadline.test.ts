import { createClient } from "@connectrpc/connect";
import { expect, it, onTestFinished } from "vitest";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { useServer } from "../support/server.ts";
import { createTransport } from "../support/transports.ts";

// A timer beyond 2^31 - 1 ms fires at once: such a deadline used to be over before the call began.
for (const [protocol, header, value] of [
  ["connect", "connect-timeout-ms", "9999999999"],
  ["grpc", "grpc-timeout", "99999999H"],
] as const) {
  it(`a deadline of months is not over at once: ${protocol}`, async () => {
    const server = await useServer();
    const made = createTransport({ protocol, httpVersion: "2", tls: false }, server.url);
    onTestFinished(made.close);
    const greet = createClient(GreetService, made.transport);
    const headers = { [header]: value };
    expect((await greet.greet({ name: "Ada" }, { headers })).greeting).toBe("Hello, Ada!");
    const greetings: string[] = [];
    const request = { name: "Ada", times: 2, interval: { nanos: 20_000_000 } };
    for await (const { greeting } of greet.greetRepeatedly(request, { headers })) greetings.push(greeting);
    expect(greetings).toHaveLength(2);
  });
}
