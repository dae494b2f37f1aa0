import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { connect } from "node:http2";
import { describe, expect, it, onTestFinished } from "vitest";
import { again } from "../../src/async/again.ts";
import { isPortInUse } from "../../src/errors.ts";
import { DataService } from "../../gen/data/v1/data_pb.ts";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.ts";
import { deferred, within } from "../support/deadline.ts";
import { startServer, useServer } from "../support/server.ts";
import { createTransport } from "../support/transports.ts";

const h2c = { protocol: "connect", httpVersion: "2", tls: false } as const;
const http1 = { protocol: "connect", httpVersion: "1.1", tls: false } as const;

function useTransport(lane: typeof h2c | typeof http1, url: string) {
  const made = createTransport(lane, url);
  onTestFinished(made.close);
  return made.transport;
}

async function codeOf(call: Promise<unknown>): Promise<Code | undefined> {
  return within(
    10_000,
    "the call's end",
    call.then(
      () => undefined,
      (error: unknown) => ConnectError.from(error).code,
    ),
  );
}

describe("close()", () => {
  it("tells health watchers, ends following reads with UNAVAILABLE, and lets running appends finish", async () => {
    const server = await startServer({ drainTimeout: 600_000 });
    const transport = useTransport(h2c, server.url);
    const data = createClient(DataService, transport);
    const health = createClient(Health, transport);
    await data.createStream({ name: "s" });

    const statuses: Status[] = [];
    const serving = deferred();
    const watched = (async () => {
      for await (const { status } of health.watch({})) {
        statuses.push(status);
        serving.resolve();
      }
    })();
    await within(5000, "the first status", serving.promise);

    const caughtUp = deferred();
    const followed = (async () => {
      for await (const { message } of data.read({ stream: "s", follow: true })) {
        if (message.case === "caughtUp") caughtUp.resolve();
      }
    })();
    await within(5000, "caught_up", caughtUp.promise);

    const opened = deferred();
    const finish = deferred();
    const appended = (async () => {
      async function* requests() {
        yield { message: { case: "open" as const, value: { stream: "s" } } };
        opened.resolve();
        await finish.promise;
        yield { message: { case: "append" as const, value: { records: [{ data: new Uint8Array(3) }] } } };
      }
      return data.upload(requests());
    })();
    await within(5000, "the upload's open", opened.promise);
    // The open must have reached the server, or the call would rightly be refused.
    await expect.poll(async () => (await data.getStream({ name: "s" })).stream?.tail).toBe(0n);

    const closed = server.close();
    // Both end at once, so both are awaited at once.
    const [code] = await Promise.all([codeOf(followed), codeOf(watched)]);
    expect(code).toBe(Code.Unavailable);
    expect(statuses).toEqual([Status.SERVING, Status.NOT_SERVING]);
    finish.resolve();
    const summary = await within(5000, "the upload's summary", appended);
    expect(summary.nextSeq).toBe(1n);
    await within(15_000, "the close", closed);
    expect(await codeOf(createClient(GreetService, useTransport(http1, server.url)).greet({ name: "a" }))).toBe(
      Code.Unavailable,
    );
  });

  it("sends GOAWAY on each HTTP/2 session, and takes no new connection", async () => {
    const server = await startServer();
    const session = connect(server.url);
    onTestFinished(() => {
      session.destroy();
    });
    const goaway = deferred<number>();
    session.on("goaway", (code: number) => {
      goaway.resolve(code);
    });
    session.on("error", () => undefined);
    await within(5000, "the connection", new Promise((resolve) => session.once("remoteSettings", resolve)));
    const closed = server.close();
    await expect(within(5000, "GOAWAY", goaway.promise)).resolves.toBe(0);
    await within(5000, "the close", closed);
  });

  it("ends what still runs after the bound with UNAVAILABLE, and closes", async () => {
    const server = await startServer({ drainTimeout: 50 });
    const greet = createClient(GreetService, useTransport(h2c, server.url));
    const first = deferred();
    const greeted = (async () => {
      for await (const _ of greet.greetRepeatedly({ name: "Ada", times: 1000, interval: { seconds: 60n } })) {
        first.resolve();
      }
    })();
    await within(5000, "the first greeting", first.promise);
    const closed = server.close();
    expect(await codeOf(greeted)).toBe(Code.Unavailable);
    await within(10_000, "the close", closed);
    await server.close();
  });

  it("frees the port", async () => {
    // Somebody else may take it just then, but not always.
    await again(5, isPortInUse, async () => {
      const server = await startServer();
      const port = Number(new URL(server.url).port);
      await server.close();
      expect((await useServer({ port })).url).toBe(server.url);
    });
  });
});

describe("close() with a drain delay", () => {
  /** What somebody sees who comes now. */
  async function look(url: string, lane: typeof h2c | typeof http1): Promise<{ health: Status; greeting: string }> {
    const transport = useTransport(lane, url);
    const [{ status }, { greeting }] = await within(
      10_000,
      "the answers",
      Promise.all([
        createClient(Health, transport).check({}),
        createClient(GreetService, transport).greet({ name: "Ada" }),
      ]),
    );
    return { health: status, greeting };
  }

  it("goes on as before, on new connections too, but is NOT_SERVING, until it is cut short", async () => {
    const server = await startServer({ drainDelay: 600_000 });
    onTestFinished(() => server.abort());
    const health = createClient(Health, useTransport(h2c, server.url));
    const watched = health.watch({})[Symbol.asyncIterator]();
    const next = async (): Promise<unknown> => {
      const result = await within(10_000, "a status", watched.next());
      return result.done === true ? undefined : result.value.status;
    };
    expect(await next()).toBe(Status.SERVING);
    const closed = server.close();
    expect(await next()).toBe(Status.NOT_SERVING);
    for (const lane of [h2c, http1]) {
      expect(await look(server.url, lane)).toEqual({ health: Status.NOT_SERVING, greeting: "Hello, Ada!" });
    }
    const ended = codeOf(watched.next());
    await within(20_000, "the end", server.abort());
    expect(await ended).toBe(Code.Unavailable);
    await within(20_000, "the close", closed);
  });

  it("drains after it", async () => {
    const server = await startServer({ drainDelay: 200 });
    const data = createClient(DataService, useTransport(h2c, server.url));
    await data.createStream({ name: "s" });
    const followed = codeOf(
      (async () => {
        for await (const _ of data.read({ stream: "s", follow: true }));
      })(),
    );
    await within(20_000, "the close", server.close());
    expect(await followed).toBe(Code.Unavailable);
    expect(await codeOf(data.getStream({ name: "s" }))).toBe(Code.Unavailable);
  });
});
