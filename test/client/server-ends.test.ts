import { Code, createClient } from "@connectrpc/connect";
import { describe, expect, it, onTestFinished } from "vitest";
import { DataService } from "../../gen/data/v1/data_pb.ts";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.ts";
import { failureOf } from "../support/calls.ts";
import { until, within } from "../support/deadline.ts";
import { useServer } from "../support/server.ts";
import { useSluiceClient } from "../support/sluice-client.ts";
import { createTransport } from "../support/transports.ts";

describe("a server that ends calls for reasons of its own", () => {
  it.each([
    ["--stream-timeout", { streamTimeout: 300 }],
    ["--max-connection-age", { maxConnectionAge: 1000, maxConnectionAgeGrace: 100 }],
  ])("does not end followers and appenders, which resume on another call: %s", async (_option, config) => {
    const client = useSluiceClient((await useServer(config)).url, { retry: { baseDelayMs: 1, maxDelayMs: 10 } });
    let ends = 0;
    const onRetry = (): void => {
      ends++;
    };
    const appender = client.data.appender("s", { createIfMissing: true, onRetry });
    await appender.append([{ data: "0" }]);
    const seen: string[] = [];
    const followed = (async () => {
      for await (const { data } of client.data.read("s", { follow: true, onRetry })) {
        seen.push(Buffer.from(data).toString());
        if (seen.at(-1) === "last") return;
      }
    })();
    let sent = 1;
    while (ends < 4) {
      await within(10_000, "an ack", appender.append([{ data: String(sent) }]));
      sent++;
    }
    await within(10_000, "the last ack", appender.append([{ data: "last" }]));
    await within(10_000, "the last record", followed);
    expect(seen).toEqual([...Array.from({ length: sent }, (_, i) => String(i)), "last"]);
    await appender.close();
  });

  it.each(["connect", "grpc"] as const)(
    "is called again when it has no memory for a call, over %s",
    async (protocol) => {
      const MiB = 1024 * 1024;
      const limits = { maxRequestMemory: 16 * MiB, maxMessageBytes: 32 * MiB, maxBatchBytes: 32 * MiB };
      const client = useSluiceClient((await useServer(limits)).url, { protocol });
      const delays: number[] = [];
      const appender = client.data.appender("s", {
        createIfMissing: true,
        retry: { attempts: 1 },
        onRetry: (_error, _attempt, delayMs) => delays.push(delayMs),
      });
      // More than the server ever has for one call: what is seen is that the client believes its advice.
      const refused = failureOf(appender.append([{ data: new Uint8Array(20 * MiB) }]));
      expect((await within(20_000, "the refusal", refused)).code).toBe(Code.ResourceExhausted);
      expect(delays).toEqual([1000]);
    },
  );

  it("tells the client when it may retry", async () => {
    const server = await useServer({ streamIdleTimeout: 200 });
    const made = createTransport({ protocol: "grpc", httpVersion: "2", tls: false }, server.url);
    onTestFinished(made.close);
    const data = createClient(DataService, made.transport);
    await data.createStream({ name: "s" });
    async function* silent() {
      yield { message: { case: "open" as const, value: { stream: "s" } } };
      await new Promise(() => undefined);
    }
    const failure = await failureOf(data.upload(silent()));
    expect(failure).toMatchObject({ rawMessage: expect.stringContaining("--stream-idle-timeout") });
    expect(failure).toMatchObject({ details: [{ type: "google.rpc.RetryInfo" }] });
  });

  it("does not end a health watch that is idle", async () => {
    const server = await useServer({ streamIdleTimeout: 200, adminPort: 0 });
    const made = createTransport({ protocol: "grpc", httpVersion: "2", tls: false }, server.url);
    onTestFinished(made.close);
    const statuses: Status[] = [];
    const watched = (async () => {
      for await (const { status } of createClient(Health, made.transport).watch({})) statuses.push(status);
    })();
    // Another call that began later is ended for it twice meanwhile.
    const data = createClient(DataService, made.transport);
    await until(10_000, "the first status", () => statuses.length === 1);
    for (let i = 0; i < 2; i++) {
      async function* silent() {
        yield { message: { case: "open" as const, value: { stream: "s", createIfMissing: true } } };
        await new Promise(() => undefined);
      }
      await failureOf(data.upload(silent()));
    }
    expect(statuses).toEqual([Status.SERVING]);
    const closed = server.close();
    await failureOf(watched);
    expect(statuses).toEqual([Status.SERVING, Status.NOT_SERVING]);
    await closed;
  });
});
