import { Code, ConnectError } from "@connectrpc/connect";
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { StreamDeniedError } from "../../src/client/index.ts";
import { DomainError, principalKey } from "../../src/index.ts";
import type { StreamRequest } from "../../src/index.ts";
import { deferred, until, within } from "../support/deadline.ts";
import { startServer } from "../support/server.ts";
import { End, failureOf, streamLanes, useStreams, useTlsFiles } from "../support/streams.ts";

useTlsFiles();

async function denialOf(work: Promise<unknown>): Promise<StreamDeniedError> {
  const failure = await failureOf("the denial", work);
  expect(failure).toBeInstanceOf(StreamDeniedError);
  return failure as StreamDeniedError;
}

for (const lane of streamLanes) {
  describe(`a stream over ${lane.name}`, () => {
    it("is decided on by its headers, before anything else has been sent", async () => {
      const asked = deferred<StreamRequest>();
      const decide = deferred();
      const events: string[] = [];
      const { client } = await useStreams(lane, {
        "/tunnel": async (request) => {
          asked.resolve(request);
          await decide.promise;
          events.push("server accepts");
          const end = new End(request.accept({ header: { "x-room": "a" } }));
          events.push(`server got ${(await end.read()) ?? "the end"}`);
          await end.writer.close();
        },
      });
      const opening = client.openStream("/tunnel?to=a&to=b", { headers: { "x-who": "ada" } }).then((stream) => {
        events.push("client is allowed");
        return stream;
      });
      const request = await within(10_000, "the request", asked.promise);
      const { path, query, header, values, httpVersion, peer } = request;
      expect({ path, to: query.getAll("to"), who: header.get("x-who"), httpVersion, peer }).toEqual({
        path: "/tunnel",
        to: ["a", "b"],
        who: "ada",
        httpVersion: lane.httpVersion === "3" ? "3.0" : "2.0",
        peer: expect.stringMatching(/^127\.0\.0\.1:\d+$/),
      });
      expect(values.get(principalKey)?.scopes).toEqual(["admin"]);
      expect(events).toEqual([]);
      decide.resolve();
      const stream = await within(10_000, "the answer", opening);
      expect([stream.header.get("x-room"), stream.header.get("content-type")]).toEqual([
        "a",
        "application/octet-stream",
      ]);
      const end = new End(stream);
      events.push("client writes");
      await end.write("x");
      expect(await end.read()).toBe(undefined);
      expect(events).toEqual(["server accepts", "client is allowed", "client writes", "server got x"]);
    });

    it("is denied with a status and a reason, and nothing has been sent", async () => {
      const { client, calls } = await useStreams(lane, {
        "/tunnel": (request) => {
          request.deny(409, "room a is full: try another", { header: { "x-free": "b" } });
        },
      });
      const denial = await denialOf(client.openStream("/tunnel"));
      expect(denial).toMatchObject({ status: 409, reason: "room a is full: try another", code: Code.Aborted });
      expect(denial.header.get("x-free")).toBe("b");
      await until(10_000, "the log's line", () => calls.length === 1);
      expect(calls[0]).toMatchObject({ method: "/tunnel", protocol: "raw", code: "aborted", bytesIn: 0 });
    });

    it("needs a valid token, and the scope that its path asks for", async () => {
      const dir = await mkdtemp(join(tmpdir(), "sluice-tokens-"));
      onTestFinished(() => rm(dir, { recursive: true }));
      const tokensFile = join(dir, "tokens.json");
      const sha256 = createHash("sha256").update("t").digest("hex");
      await writeFile(
        tokensFile,
        JSON.stringify({ tokens: [{ name: "t", sha256, scopes: ["data:read:logs/*", "rpc:/any"] }] }),
      );
      let handled = 0;
      const accept = (request: StreamRequest): void => {
        handled++;
        request.accept();
      };
      const { connect: connectAs, calls } = await useStreams(
        lane,
        {
          "/any": accept,
          "/other": accept,
          "/read": [accept, { scope: "data:read:logs/app" }],
          "/write": [accept, { scope: "data:write:logs/app" }],
        },
        { tokensFile },
      );
      const own = connectAs({ token: "t" });
      for (const path of ["/any", "/read"]) await within(10_000, path, own.openStream(path));
      expect(handled).toBe(2);
      const { "t-none": none, ...refused } = {
        "t-none": await denialOf(connectAs({ token: "" }).openStream("/any")),
        wrong: await denialOf(connectAs({ token: "sample" }).openStream("/any")),
        scope: await denialOf(own.openStream("/write")),
        path: await denialOf(own.openStream("/other")),
      };
      expect([none.status, none.reason, none.code, none.header.get("www-authenticate")]).toEqual([
        401,
        "no token provided",
        Code.Unauthenticated,
        "Bearer",
      ]);
      expect([refused.wrong.status, refused.wrong.reason]).toEqual([401, "invalid token"]);
      expect([refused.scope.status, refused.scope.reason, refused.scope.code]).toEqual([
        403,
        expect.stringContaining("it needs the scope data:write:logs/app"),
        Code.PermissionDenied,
      ]);
      expect([refused.path.status, refused.path.reason]).toEqual([
        403,
        expect.stringContaining("it needs the scope rpc:/other"),
      ]);
      expect(handled).toBe(2);
      await until(10_000, "the log's lines", () => calls.length >= 4);
      // The lines of different connections come in any order.
      const codes = calls.map(({ code }) => code).sort();
      expect(codes).toEqual(["permission_denied", "permission_denied", "unauthenticated", "unauthenticated"]);
    });

    it("is denied if there is no such path, or the handler fails or forgets to decide", async () => {
      const { client, errors } = await useStreams(lane, {
        "/fails": () => {
          throw new Error("a bug");
        },
        "/expected": () => Promise.reject(new ConnectError("not yet", Code.Unavailable)),
        "/domain": () => {
          throw new DomainError({ kind: "stream-not-found", stream: "logs" });
        },
        "/forgets": () => undefined,
        "/twice": (request) => {
          request.deny(400, "once");
          request.accept();
        },
      });
      const of = async (path: string): Promise<readonly [number, string]> => {
        const { status, reason } = await denialOf(client.openStream(path));
        return [status, reason];
      };
      expect(await of("/absent")).toEqual([404, expect.stringContaining("there is no method /absent")]);
      expect(await of("/expected")).toEqual([503, "not yet"]);
      expect(await of("/domain")).toEqual([404, expect.stringContaining('stream "logs" does not exist')]);
      expect(errors).toEqual([]);
      expect(await of("/fails")).toEqual([500, "internal error"]);
      expect(await of("/forgets")).toEqual([500, "internal error"]);
      expect(await of("/twice")).toEqual([400, "once"]);
      expect(errors.map((line) => (line["err"] as Error).message)).toEqual([
        "a bug",
        "the handler of /forgets has neither accepted nor denied the stream",
        "whether this stream is accepted has been decided before",
      ]);
    });

    it("is given up by its client before it is decided on", async () => {
      const asked = deferred<StreamRequest>();
      const ended = deferred<unknown>();
      const { client } = await useStreams(lane, {
        "/tunnel": async (request) => {
          asked.resolve(request);
          await new Promise((resolve) => {
            request.signal.addEventListener("abort", resolve);
          });
          ended.resolve(request.signal.reason);
          request.accept();
        },
      });
      const controller = new AbortController();
      const opening = failureOf("the opening", client.openStream("/tunnel", { signal: controller.signal }));
      await within(10_000, "the request", asked.promise);
      controller.abort();
      expect(await opening).toMatchObject({ code: Code.Canceled });
      expect(await within(10_000, "the handler's end", ended.promise)).toMatchObject({
        rawMessage: "the client went away",
      });
      expect(
        await failureOf("a late start", client.openStream("/tunnel", { signal: controller.signal })),
      ).toMatchObject({
        code: Code.Canceled,
      });
    });

    it("fails if the server does not decide in time", async () => {
      const { client } = await useStreams(lane, {
        "/slow": ({ signal }) =>
          new Promise((resolve) => {
            signal.addEventListener("abort", () => {
              resolve();
            });
          }),
      });
      const failure = await failureOf("the opening", client.openStream("/slow", { timeoutMs: 50 }));
      expect(failure).toMatchObject({ code: Code.DeadlineExceeded, rawMessage: expect.stringContaining("50 ms") });
    });
  });
}

describe("a stream", () => {
  it("is refused over HTTP/1.1, with what would work, by client and server", async () => {
    const { server, connect: connectAs } = await useStreams(
      { name: "", httpVersion: "2", tls: false },
      { "/tunnel": (request) => void request.accept() },
    );
    const failure = await failureOf("the opening", connectAs({ httpVersion: "1.1" }).openStream("/tunnel"));
    expect(failure).toMatchObject({ code: Code.Unimplemented, rawMessage: expect.stringContaining('"2" or "3"') });
    const headers = { authorization: "Bearer sample", expect: "100-continue" };
    const { expect: _, ...plain } = headers;
    const response = await fetch(new URL("/tunnel", server.url), { method: "POST", headers: plain, body: "x" });
    expect([response.status, await response.text()]).toEqual([505, expect.stringMatching(/needs HTTP\/2 or HTTP\/3/)]);
    // So are other methods.
    const put = await fetch(new URL("/tunnel", server.url), { method: "PUT", headers: plain });
    expect([put.status, put.headers.get("allow"), await put.text()]).toEqual([
      405,
      "POST, GET",
      expect.stringContaining("with POST or GET"),
    ]);
  });

  it("is asked for at a path or a URL of the server", async () => {
    const { server, client } = await useStreams(
      { name: "", httpVersion: "2", tls: false },
      { "/tunnel": (request) => void request.accept() },
    );
    await within(10_000, "the stream", client.openStream(new URL("/tunnel", server.url).href));
    for (const wrong of ["tunnel", "http://127.0.0.1:1/tunnel", "https://example.com/"]) {
      expect(await failureOf(wrong, client.openStream(wrong))).toBeInstanceOf(TypeError);
    }
  });

  it("is registered at a path of its own, with a scope that there is", async () => {
    const accept = (request: StreamRequest): void => void request.accept();
    const wrong: [string, RegExp, { scope?: string }?][] = [
      ["tunnel", /is not a path/],
      ["/tunnel?x", /is not a path/],
      ["/twice", /has a handler already/],
      ["/greet.v1.GreetService/Greet", /is an RPC's path/],
      ["/tunnel", /"nonsense" is not a scope/, { scope: "nonsense" }],
    ];
    for (const [path, message, options] of wrong) {
      const started = startServer(
        {},
        {
          streams({ onStream }) {
            onStream("/twice", accept);
            onStream(path, accept, options);
          },
        },
      );
      await expect(started).rejects.toThrow(message);
    }
  });

  it("can be asked for by any HTTP/2 client, which is answered before it has sent anything", async () => {
    const { server } = await useStreams(
      { name: "", httpVersion: "2", tls: false },
      {
        "/echo": async (request) => {
          const { readable, writable } = request.accept();
          await readable.pipeTo(writable);
        },
      },
    );
    const session = connect(server.url);
    onTestFinished(() => {
      session.destroy();
    });
    const stream = session.request(
      { ":method": "POST", ":path": "/echo", "acme-token": "sample" },
      { endStream: false },
    );
    const head = deferred<number | undefined>();
    stream.on("response", (headers) => {
      head.resolve(headers[":status"]);
    });
    expect(await within(10_000, "the head", head.promise)).toBe(200);
    let text = "";
    const end = deferred();
    stream.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      stream.end();
    });
    stream.on("end", end.resolve);
    stream.write("hello");
    await within(10_000, "the end", end.promise);
    expect(text).toBe("hello");
  });
});
