import { Code, ConnectError } from "@connectrpc/connect";
import { createHash, randomBytes } from "node:crypto";
import { connect, constants } from "node:http2";
import { describe, expect, it, onTestFinished } from "vitest";
import { deferred, until, within } from "../support/deadline.ts";
import { failureOf, streamLanes, useEnds, useStreams, useTlsFiles } from "../support/streams.ts";

useTlsFiles();

for (const lane of streamLanes) {
  describe(`the directions of a stream over ${lane.name}`, () => {
    it("end by themselves: the client's first", async () => {
      const { client, server, handled, calls } = await useEnds(lane);
      await client.write("last words");
      await client.writer.close();
      expect(await server.readAll()).toBe("last words");
      for (const text of ["one", "two", "three"]) {
        await server.write(text);
        expect(await client.read()).toBe(text);
      }
      expect(server.request.signal.aborted).toBe(false);
      await server.writer.close();
      expect(await client.read()).toBe(undefined);
      handled.resolve();
      await until(10_000, "the log's line", () => calls.length === 1);
      expect(calls[0]).toMatchObject({ code: "ok", shape: "bidi", protocol: "raw", bytesIn: 10, bytesOut: 11 });
    });

    it("end by themselves: the server's first", async () => {
      const { client, server, handled, calls } = await useEnds(lane);
      await server.writer.close();
      expect(await client.readAll()).toBe("");
      for (const text of ["one", "two", "three"]) {
        await client.write(text);
        expect(await server.read()).toBe(text);
      }
      await client.writer.close();
      expect(await server.read()).toBe(undefined);
      // Its handler may still be at work with what has come.
      expect([server.request.signal.aborted, calls.length]).toEqual([false, 0]);
      handled.resolve();
      await until(10_000, "the log's line", () => calls.length === 1);
      expect(calls[0]).toMatchObject({ code: "ok", bytesIn: 11, bytesOut: 0 });
      expect(server.request.signal.aborted).toBe(true);
    });

    it("move bytes at once, unharmed, both ways", async () => {
      const { client } = await useStreams(lane, {
        "/echo": async (request) => {
          const { readable, writable } = request.accept();
          await readable.pipeTo(writable);
        },
      });
      const move = async (): Promise<void> => {
        const { readable, writable } = await client.openStream("/echo");
        const sent = createHash("sha256");
        const got = createHash("sha256");
        const send = async (): Promise<void> => {
          const writer = writable.getWriter();
          for (let i = 0; i < 160; i++) {
            const block = randomBytes(1 + ((i * 7919) % 100_000));
            sent.update(block);
            await writer.write(block);
            // What has been written may be changed.
            block.fill(0);
          }
          await writer.close();
        };
        const receive = async (): Promise<void> => {
          for await (const chunk of readable) got.update(chunk);
        };
        await Promise.all([send(), receive()]);
        expect(got.digest("hex")).toBe(sent.digest("hex"));
      };
      await within(25_000, "the end", Promise.all([move(), move(), move()]));
    });

    it("are both cut when the client aborts its writable, also while a write waits", async () => {
      for (const waiting of [false, true]) {
        const { client, server, calls } = await useEnds(lane);
        const finished = deferred();
        const handler = server.reader.closed.catch(() => undefined).finally(finished.resolve);
        const reason = new Error("enough");
        client.writer.ready.catch(() => undefined);
        if (waiting) client.writer.write(new Uint8Array(8 * 1024 * 1024)).catch(() => undefined);
        else await client.write("x");
        await within(10_000, "the abort", client.writer.abort(reason));
        expect(await failureOf("the client's read", client.reader.read())).toBe(reason);
        await within(10_000, "the handler's finally", finished.promise);
        await handler;
        expect(await failureOf("the server's write", server.write("late"))).toMatchObject({ code: Code.Canceled });
        expect(server.request.signal.reason).toMatchObject({ rawMessage: "the client went away" });
        await until(10_000, "the log's line", () => calls.length === 1);
        expect(calls[0]).toMatchObject({ code: "canceled" });
      }
    });

    it("are both cut when the client's signal is aborted", async () => {
      const controller = new AbortController();
      const { client, server } = await useEnds(lane, {}, controller.signal);
      const read = failureOf("the server's read", server.reader.read());
      controller.abort();
      expect(await failureOf("the client's read", client.reader.read())).toMatchObject({ code: Code.Canceled });
      expect(await failureOf("the client's write", client.write("x"))).toMatchObject({ code: Code.Canceled });
      expect(await read).toMatchObject({ code: Code.Canceled });
    });

    it("are both cut when the client is closed", async () => {
      const { sluice, server } = await useEnds(lane);
      const read = failureOf("the server's read", server.reader.read());
      await sluice.close();
      expect(await read).toMatchObject({ code: Code.Canceled });
    });

    it("are both cut when the server aborts its writable", async () => {
      const { client, server, calls, errors } = await useEnds(lane);
      await within(10_000, "the abort", server.writer.abort(new Error("enough")));
      const failure = await failureOf("the client's read", client.reader.read());
      // CANCEL (RFC 9113, section 7), H3_REQUEST_CANCELLED (RFC 9114, section 8.1).
      const code = lane.httpVersion === "3" ? "0x10c" : "0x8";
      expect(failure).toMatchObject({ code: Code.Canceled, rawMessage: expect.stringContaining(`error code ${code}`) });
      expect(await failureOf("the client's write", client.write("late"))).toMatchObject({ code: Code.Canceled });
      await until(10_000, "the log's line", () => calls.length === 1);
      expect([calls[0]?.["code"], errors]).toEqual(["aborted", []]);
    });

    it("are both cut when the handler fails, with a code that says whose fault it is", async () => {
      for (const [failure, code, h2, h3] of [
        [new Error("a bug"), Code.Internal, "0x2", "0x102"],
        [new ConnectError("full", Code.ResourceExhausted), Code.Canceled, "0x8", "0x10c"],
      ] as const) {
        const { client, handled, errors } = await useEnds(lane);
        handled.reject(failure);
        expect(await failureOf("the client's read", client.reader.read())).toMatchObject({
          code,
          rawMessage: expect.stringContaining(`error code ${lane.httpVersion === "3" ? h3 : h2}`),
        });
        expect(errors).toHaveLength(code === Code.Internal ? 1 : 0);
      }
    });

    it("are not both cut when one is not wanted any more: the server's", async () => {
      const { client, server } = await useEnds(lane);
      await server.write("before");
      expect(await client.read()).toBe("before");
      await client.reader.cancel();
      if (lane.httpVersion === "3") {
        const writing = async (): Promise<void> => {
          for (;;) await server.write("unwanted");
        };
        const failure = await failureOf("the server's write", writing());
        expect(failure).toMatchObject({ rawMessage: "the client takes no more of this stream" });
      } else {
        // HTTP/2 cannot say it: what comes is dropped, and holds nothing up.
        for (let i = 0; i < 64; i++) await within(10_000, "a write", server.writer.write(new Uint8Array(128 * 1024)));
        await server.writer.close();
      }
      expect(server.request.signal.aborted).toBe(false);
      for (const text of ["one", "two"]) {
        await client.write(text);
        expect(await server.read()).toBe(text);
      }
      await client.writer.close();
      expect(await server.read()).toBe(undefined);
    });

    it("are not both cut when one is not wanted any more: the client's", async () => {
      const { client, server, handled, calls } = await useEnds(lane);
      await client.write("before");
      expect(await server.read()).toBe("before");
      await server.reader.cancel();
      if (lane.httpVersion === "3") {
        const writing = async (): Promise<void> => {
          for (;;) await client.write("unwanted");
        };
        const failure = await failureOf("the client's write", writing());
        expect(failure).toMatchObject({ rawMessage: "the server takes no more of this stream" });
      } else {
        for (let i = 0; i < 64; i++) await within(10_000, "a write", client.writer.write(new Uint8Array(128 * 1024)));
      }
      for (const text of ["one", "two"]) {
        await server.write(text);
        expect(await client.read()).toBe(text);
      }
      await server.writer.close();
      handled.resolve();
      expect(await client.read()).toBe(undefined);
      // Over HTTP/2 the client is told now.
      await failureOf("the client's write", client.writer.closed);
      await until(10_000, "the log's line", () => calls.length === 1);
      expect(calls[0]).toMatchObject({ code: "ok" });
    });

    it("take bytes and nothing else", async () => {
      const { client, server } = await useEnds(lane);
      const failure = await failureOf("the write", client.writer.write("text" as never));
      expect(failure).toBeInstanceOf(TypeError);
      expect(await failureOf("the server's read", server.reader.read())).toBeInstanceOf(ConnectError);
    });
  });
}

describe("a stream of HTTP/2", () => {
  it("has not ended in order when Node's own client resets it, which ends it first", async () => {
    const outcome = deferred<unknown>();
    const { server } = await useStreams(
      { name: "", httpVersion: "2", tls: false },
      {
        "/sink": async (request) => {
          const reader = request.accept().readable.getReader();
          await reader.read();
          outcome.resolve(await reader.read().catch((error: unknown) => error));
        },
      },
    );
    const session = connect(server.url);
    onTestFinished(() => {
      session.destroy();
    });
    const stream = session.request({ ":method": "POST", ":path": "/sink", "acme-token": "sample" });
    stream.on("error", () => undefined);
    const head = deferred();
    stream.on("response", () => {
      head.resolve();
    });
    stream.write("half of it");
    await within(10_000, "the head", head.promise);
    stream.close(constants.NGHTTP2_CANCEL);
    expect(await within(10_000, "the outcome", outcome.promise)).toBeInstanceOf(ConnectError);
  });
});
