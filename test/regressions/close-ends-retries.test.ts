import { Code } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { createSluiceClient } from "../../src/client/index.ts";
import { deferred, within } from "../support/deadline.ts";
import { useServer } from "../support/server.ts";

/** A closed client took its own end for a broken connection, and tried again until the attempts were used up. */
describe("closing a client", () => {
  // With so many attempts, an end that waits for the last one does not come within any test's time.
  const retry = { attempts: 1_000_000 };

  it("ends a read that follows, at once", async () => {
    const { url } = await useServer();
    const client = createSluiceClient({ url, token: "sample", retry });
    await client.data.createStream("s");
    const caughtUp = deferred();
    const retries: unknown[] = [];
    const read = (async () => {
      const onCaughtUp = (): void => {
        caughtUp.resolve();
      };
      const options = { follow: true, onCaughtUp, onRetry: (error: unknown) => retries.push(error) };
      for await (const _ of client.data.read("s", options));
    })();
    const ended = expect(read).rejects.toMatchObject({ code: Code.Canceled });
    await within(10_000, "the tail", caughtUp.promise);
    await client.close();
    await within(10_000, "the read's end", ended);
    expect(retries).toEqual([]);
  });

  it("ends a read that waits for its next attempt, at once", async () => {
    const waiting = deferred();
    const client = createSluiceClient({
      url: "http://127.0.0.1:1",
      token: "sample",
      retry: { ...retry, baseDelayMs: 2 ** 30, maxDelayMs: 2 ** 30 },
    });
    const read = (async () => {
      for await (const _ of client.data.read("s", {
        onRetry: () => {
          waiting.resolve();
        },
      }));
    })();
    const ended = expect(read).rejects.toMatchObject({ code: Code.Canceled });
    await within(10_000, "the wait", waiting.promise);
    await client.close();
    await within(10_000, "the read's end", ended);
  });

  it("ends an appender that waits for an answer, at once", async () => {
    // Nothing listens on port 1 of loopback.
    const client = createSluiceClient({ url: "http://127.0.0.1:1", token: "sample", retry });
    const waiting = deferred();
    const appender = client.data.appender("s", {
      onRetry: () => {
        waiting.resolve();
      },
    });
    const ended = expect(appender.append([{ data: new Uint8Array(1) }])).rejects.toMatchObject({ code: Code.Canceled });
    await within(10_000, "the wait", waiting.promise);
    await client.close();
    await within(10_000, "the appender's end", ended);
  });
});
