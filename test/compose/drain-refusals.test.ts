import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { startServer } from "../support/server.ts";
import { deferred, until, within } from "../support/deadline.ts";
import { Received, tlsFiles, useHttp3Connection } from "../support/http3.ts";
import { tally, tallyService } from "../support/tally.ts";

// A drain refuses new calls twice: the listeners take no more of them, and the gate lets none of them pass that come
// all the same. Each would hide that the other is gone, so each is tested where the other cannot help.

let dir: string;
let tls: { tlsCert: string; tlsKey: string };
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "sluice-drain-"));
  tls = { tlsCert: join(dir, "cert.pem"), tlsKey: join(dir, "key.pem") };
  await Promise.all([writeFile(tls.tlsCert, tlsFiles.cert), writeFile(tls.tlsKey, tlsFiles.key)]);
});
afterAll(() => rm(dir, { recursive: true }));

interface CallLine {
  readonly method: string;
  readonly code: string;
}

/** A server with a call that goes on until it is let go. */
async function useHolding(config: Parameters<typeof startServer>[0] = {}) {
  const calls: CallLine[] = [];
  const write = (text: string): void => {
    const line = JSON.parse(text) as CallLine & { msg: string };
    if (line.msg === "call") calls.push(line);
  };
  const held = deferred();
  const begun = deferred();
  const handled: string[] = [];
  const server = await startServer(
    { drainTimeout: 600_000, ...config },
    {
      log: pino({ level: "info" }, { write }),
      routes: (router) =>
        router.service(tallyService("TallyService"), {
          ...tally,
          async *watch() {
            yield await Promise.resolve({ n: 1 });
            begun.resolve();
            await held.promise;
          },
          async *talk() {
            handled.push("talk");
            yield await Promise.resolve({ n: 1 });
          },
        } as object),
    },
  );
  onTestFinished(async () => {
    held.resolve();
    await server.close();
  });
  return { server, calls, handled, release: held.resolve, begun: begun.promise };
}

const json = { "content-type": "application/connect+json", authorization: "Bearer sample" };
const emptyMessage = Buffer.from([0, 0, 0, 0, 2, 0x7b, 0x7d]);

function sendHttp1(socket: Socket, path: string): void {
  const lines = [
    `POST ${path} HTTP/1.1`,
    "Host: localhost",
    ...Object.entries(json).map(([name, value]) => `${name}: ${value}`),
    `content-length: ${emptyMessage.byteLength}`,
  ];
  socket.write(Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`), emptyMessage]));
}

describe("the gate, in a drain", () => {
  it("refuses a call that comes on a connection behind one that goes on", async () => {
    const { server, calls, handled, begun, release } = await useHolding({ adminPort: 0 });
    const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
    socket.on("error", () => undefined);
    onTestFinished(() => {
      socket.destroy();
    });
    sendHttp1(socket, "/tally.v1.TallyService/Watch");
    await within(10_000, "the call that goes on", begun);
    const closed = server.close();
    closed.catch(() => undefined);
    // Behind a call that goes on, a request is taken at once, and its answer waits (RFC 9112, section 9.3.2).
    sendHttp1(socket, "/tally.v1.TallyService/Talk");
    const active = async (): Promise<boolean> =>
      /^sluice_calls_active 2$/m.test(await (await fetch(server.adminUrl ?? "")).text());
    await until(10_000, "the call that is refused", active);
    release();
    const of = (method: string) => calls.find((line) => line.method.endsWith(method));
    await until(10_000, "its end", () => of("/Talk") !== undefined);
    expect(handled).toEqual([]);
    expect(of("/Talk")).toMatchObject({ code: "unavailable" });
  });
});

describe("the listeners, in a drain", () => {
  it("take no new connection, and no new call on the ones that are open: HTTP/1.1", async () => {
    const { server, calls, begun } = await useHolding();
    const port = Number(new URL(server.url).port);
    const [busy, idle] = [connect(port, "127.0.0.1"), connect(port, "127.0.0.1")];
    for (const socket of [busy, idle]) {
      socket.on("error", () => undefined);
      socket.resume();
      onTestFinished(() => {
        socket.destroy();
      });
    }
    // An idle one has been used before: what has not sent a byte is not known to be HTTP/1.1.
    const answered = deferred();
    idle.once("data", () => {
      answered.resolve();
    });
    sendHttp1(idle, "/tally.v1.TallyService/Talk");
    await within(10_000, "the first answer", answered.promise);
    sendHttp1(busy, "/tally.v1.TallyService/Watch");
    await within(10_000, "the call that goes on", begun);
    const ended = deferred();
    idle.once("end", () => {
      ended.resolve();
    });
    void server.close();
    await within(10_000, "the end of the idle connection", ended.promise);
    const late = connect(port, "127.0.0.1");
    onTestFinished(() => {
      late.destroy();
    });
    const refused = deferred<string>();
    late.once("connect", () => {
      refused.resolve("connected");
    });
    late.once("error", (error: NodeJS.ErrnoException) => {
      refused.resolve(error.code ?? "");
    });
    expect(await within(10_000, "the refusal", refused.promise)).toBe("ECONNREFUSED");
    expect(calls.filter(({ method }) => method.endsWith("/Talk"))).toHaveLength(1);
  });

  for (const secure of [false, true]) {
    it(`take no new connection, and send GOAWAY: HTTP/2 ${secure ? "with TLS" : "in the clear"}`, async () => {
      const { server, calls, begun } = await useHolding(secure ? tls : {});
      const session = connectHttp2(server.url, { ca: tlsFiles.ca });
      session.on("error", () => undefined);
      onTestFinished(() => {
        session.destroy();
      });
      const goaway = deferred<number>();
      session.on("goaway", (code: number) => {
        goaway.resolve(code);
      });
      const stream = session.request({ ":method": "POST", ":path": "/tally.v1.TallyService/Watch", ...json });
      stream.on("error", () => undefined);
      stream.end(emptyMessage);
      await within(10_000, "the call that goes on", begun);
      void server.close();
      expect(await within(10_000, "GOAWAY", goaway.promise)).toBe(0);
      const late = connectHttp2(server.url, { ca: tlsFiles.ca });
      const refused = deferred<string>();
      late.once("connect", () => {
        refused.resolve("connected");
      });
      late.once("error", (error: NodeJS.ErrnoException) => {
        refused.resolve(error.code ?? "");
      });
      onTestFinished(() => {
        late.destroy();
      });
      expect(await within(10_000, "the refusal", refused.promise)).toBe("ECONNREFUSED");
      expect(calls).toEqual([]);
    });
  }

  it("take no new connection, and no new call on the ones that are open: HTTP/3", async () => {
    const { server, calls, begun, release } = await useHolding({ ...tls, http3: true });
    const url = `https://127.0.0.1:${server.http3Port ?? 0}`;
    const { open } = useHttp3Connection(url);
    const ask = async (path: string): Promise<Received> => {
      const received = new Received();
      const exchange = await open({ method: "POST", url: `${url}${path}`, header: new Headers(json) }, received);
      exchange.write([emptyMessage], () => undefined);
      exchange.end();
      return received;
    };
    const held = await ask("/tally.v1.TallyService/Watch");
    await within(10_000, "the call that goes on", begun);
    void server.close();
    // What comes before the engine has heard of the drain is refused by the gate: a call, with a line in the log.
    let byGate = 0;
    await until(20_000, "a refusal by the listener", async () => {
      const failure: unknown = await within(
        20_000,
        "the refusal",
        ask("/tally.v1.TallyService/Talk").then(
          (received) => received.end.promise.then(() => received.text),
          (error: unknown) => error,
        ),
      );
      const isByGate = String(failure).includes("shutting down");
      if (isByGate) byGate++;
      return !isByGate;
    });
    release();
    await within(10_000, "the end of the call that went on", held.end.promise);
    const linesOf = (method: string) => calls.filter((line) => line.method.endsWith(method));
    await until(10_000, "its line", () => linesOf("/Watch").length > 0);
    expect(linesOf("/Talk")).toHaveLength(byGate);
    expect(linesOf("/Watch")).toHaveLength(1);
  });
});
