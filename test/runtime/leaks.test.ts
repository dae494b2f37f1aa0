import { connect, constants } from "node:http2";
import type { ClientHttp2Session } from "node:http2";
import { expect, it, onTestFinished } from "vitest";
import { create, toBinary } from "@bufbuild/protobuf";
import { GreetAllRequestSchema, GreetRepeatedlyRequestSchema, GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { random } from "../support/cutting-proxy.ts";
import { until, within } from "../support/deadline.ts";
import { envelopeOf } from "../support/envelopes.ts";
import { startServerProcess } from "../support/server-process.ts";

const MiB = 1024 * 1024;

/** 100,000 in CI. */
const calls = Number(process.env["SLUICE_TEST_LEAK_CALLS"] ?? 20_000);
/** Calls at once. */
const lanes = 50;

const name = toBinary(GreetAllRequestSchema, create(GreetAllRequestSchema, { name: "Ada" }));
const repeat = (times: number, seconds = 0): Uint8Array =>
  toBinary(
    GreetRepeatedlyRequestSchema,
    create(GreetRepeatedlyRequestSchema, { name: "Ada", times, interval: { seconds: BigInt(seconds) } }),
  );

interface Plan {
  readonly method: string;
  readonly body: Buffer;
  /** Whether the request ends. */
  readonly half: boolean;
  /** The client goes away after so many turns of the event loop, in one way or the other. */
  readonly cut?: { readonly turns: number; readonly by: "reset" | "destroy" };
  readonly headers?: Readonly<Record<string, string>>;
}

/** A third does not end well: the client resets or destroys it, a deadline passes, the server refuses what it gets. */
function planOf(next: () => number): Plan {
  const method = ["GreetAll", "GreetRepeatedly", "GreetEach"][Math.floor(next() * 3)] ?? "";
  const message = envelopeOf(method === "GreetRepeatedly" ? repeat(1 + Math.floor(next() * 20)) : name);
  const body = method === "GreetRepeatedly" ? message : Buffer.concat(Array.from({ length: 5 }, () => message));
  const kind = next();
  if (kind > 1 / 3) return { method, body, half: false };
  if (kind > 1 / 6) {
    const by = next() < 0.5 ? "reset" : "destroy";
    return { method, body, half: next() < 0.5, cut: { turns: Math.floor(next() * 4), by } };
  }
  if (kind > 1 / 12)
    return { method, body: Buffer.concat([body, envelopeOf(Buffer.from([0xff]))]), half: next() < 0.5 };
  const headers = { "connect-timeout-ms": String(1 + Math.floor(next() * 10)) };
  if (method === "GreetRepeatedly") return { method, body: envelopeOf(repeat(2, 600)), half: false, headers };
  return { method, body, half: true, headers };
}

/** Resolves once the stream is closed on the client's side. */
async function call(session: ClientHttp2Session, { method, body, half, cut, headers }: Plan): Promise<void> {
  const stream = session.request({
    ":method": "POST",
    ":path": `/${GreetService.typeName}/${method}`,
    "content-type": "application/connect+proto",
    authorization: "Bearer sample",
    ...headers,
  });
  const closed = new Promise((resolve) => stream.once("close", resolve));
  stream.on("error", () => undefined).resume();
  stream.on("end", () => {
    // A request that was left open is ended with its answer.
    if (half) stream.end();
  });
  stream.write(body);
  if (!half) stream.end();
  if (cut !== undefined) {
    for (let i = 0; i < cut.turns; i++) await new Promise((resolve) => setImmediate(resolve));
    if (cut.by === "reset") stream.close(constants.NGHTTP2_CANCEL);
    else stream.destroy();
  }
  await closed;
}

it("nothing of calls that are over is kept, however they ended", { timeout: 1_200_000 }, async () => {
  const server = await startServerProcess(["--store", "memory", "--admin-port", "0"], { inspect: true });
  const next = random(20_261_121);
  const run = async (count: number): Promise<void> => {
    let session = connect(server.url);
    const sessions = new Set([session]);
    onTestFinished(() => {
      for (const one of sessions) one.destroy();
    });
    let left = count;
    const lane = async (): Promise<void> => {
      while (left-- > 0) {
        // New connections as well: what belongs to one must go with it. Node ends one by itself after a thousand resets.
        if (left % 1000 === 0) {
          session.close();
          session = connect(server.url);
          session.on("error", () => undefined);
          sessions.add(session);
        }
        await within(20_000, "the end of a call", call(session, planOf(next)));
      }
    };
    session.on("error", () => undefined);
    await Promise.all(Array.from({ length: lanes }, lane));
    for (const one of sessions) one.destroy();
    await until(20_000, "the end of every call", async () => (await server.metric("sluice_calls_active")) === 0);
    await until(20_000, "the end of every connection", async () => (await server.metric("sluice_connections")) === 0);
  };
  // What grows once and stays (code, pools, histories of histograms) is not a leak.
  await run(Math.min(5000, calls / 4));
  const before = { memory: await server.heldMemory(), resources: await server.resources() };
  await run(calls);
  await until(20_000, "the end of what was open", async () => {
    return (await server.resources()).length <= before.resources.length;
  });
  const memory = await server.heldMemory();
  // 100 bytes a call that is kept would be seen; what varies by itself is below 1 MiB.
  expect(memory - before.memory).toBeLessThan(Math.max(MiB, calls * 100));
  expect(server.log).not.toMatch(/Warning/);
});
