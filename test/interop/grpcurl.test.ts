import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Server } from "../../src/compose.ts";
import { startServer } from "../support/server.ts";

const run = promisify(execFile);
const program = process.env["GRPCURL"] ?? "grpcurl";
const proto = join(import.meta.dirname, "../../proto");

let server: Server;
let address: string;
beforeAll(async () => {
  try {
    await run(program, ["-version"], { timeout: 60_000 });
  } catch (cause) {
    const install = "go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3";
    throw new Error(`there is no ${program}: \`${install}\` and put it on the PATH, or set GRPCURL`, { cause });
  }
  server = await startServer();
  address = new URL(server.url).host;
});
afterAll(() => server.close());

/** Calls grpcurl, which knows nothing of the services: reflection has to tell. */
async function grpcurl(options: readonly string[], ...command: string[]): Promise<string> {
  return (await run(program, ["-plaintext", ...options, address, ...command], { timeout: 60_000 })).stdout;
}

/** Calls a method; the answers are one JSON value after the other. */
async function call(method: string, data: string): Promise<unknown[]> {
  const out = await grpcurl(["-H", "Acme-Token: sample", "-d", data], method);
  return JSON.parse(`[${out.trim().replace(/\}\s*\{/g, "},{")}]`) as unknown[];
}

const base64 = (text: string): string => Buffer.from(text).toString("base64");
const append = (text: string): string => `{"append":{"records":[{"data":"${base64(text)}"}]}}`;

describe("grpcurl, which speaks gRPC as grpc-go does", () => {
  it("lists the services", async () => {
    expect((await grpcurl([], "list")).trim().split("\n")).toEqual([
      "data.v1.DataService",
      "greet.v1.GreetService",
      "grpc.health.v1.Health",
      "grpc.reflection.v1.ServerReflection",
      "grpc.reflection.v1alpha.ServerReflection",
    ]);
  });

  it("lists and describes methods and messages", async () => {
    expect((await grpcurl([], "list", "greet.v1.GreetService")).trim().split("\n")).toEqual([
      "greet.v1.GreetService.Greet",
      "greet.v1.GreetService.GreetAll",
      "greet.v1.GreetService.GreetEach",
      "greet.v1.GreetService.GreetRepeatedly",
    ]);
    expect(await grpcurl([], "describe", "data.v1.DataService.Exchange")).toContain(
      "rpc Exchange ( stream .data.v1.ExchangeRequest ) returns ( stream .data.v1.ExchangeResponse );",
    );
    expect(await grpcurl([], "describe", ".data.v1.AppendRequest")).toContain("repeated .data.v1.Record records");
  });

  it("greets in each shape", async () => {
    const names = `{"name":"Ada"}{"name":"Grace"}`;
    const greet = (method: string, data: string) => call(`greet.v1.GreetService/${method}`, data);
    expect(await greet("Greet", `{"name":"Ada"}`)).toEqual([{ greeting: "Hello, Ada!" }]);
    expect(await greet("GreetAll", names)).toEqual([{ greeting: "Hello, Ada and Grace!" }]);
    expect(await greet("GreetRepeatedly", `{"name":"Ada","times":2,"interval":"0.01s"}`)).toEqual([
      { greeting: "Hello, Ada!" },
      { greeting: "Hello, Ada!" },
    ]);
    expect(await greet("GreetEach", names)).toEqual([{ greeting: "Hello, Ada!" }, { greeting: "Hello, Grace!" }]);
  });

  it("stores and reads records in each shape", async () => {
    const data = (method: string, body: string) => call(`data.v1.DataService/${method}`, body);
    expect(await data("CreateStream", `{"name":"grpcurl/log"}`)).toMatchObject([{ stream: { name: "grpcurl/log" } }]);
    expect(await data("Append", `{"stream":"grpcurl/log","records":[{"data":"${base64("a")}"}]}`)).toMatchObject([
      { nextSeq: "1" },
    ]);
    expect(await data("Upload", `{"open":{"stream":"grpcurl/log"}}${append("b")}${append("c")}`)).toMatchObject([
      { firstSeq: "1", nextSeq: "3", records: "2", bytes: "2" },
    ]);
    expect(await data("Exchange", `{"open":{"stream":"grpcurl/log"}}${append("d")}`)).toMatchObject([
      { opened: { tail: "3" } },
      { ack: { firstSeq: "3", nextSeq: "4" } },
    ]);
    const read = JSON.stringify(await data("Read", `{"stream":"grpcurl/log"}`));
    expect([...read.matchAll(/"data":"([^"]+)"/g)].map(([, text]) => text)).toEqual(["a", "b", "c", "d"].map(base64));
  });

  it("is told why a call fails, with the error's detail", async () => {
    const failure = async (headers: string[], name: string): Promise<string> => {
      const body = `{"name":"${name}"}`;
      const asked = grpcurl([...headers, "-d", body], "data.v1.DataService/GetStream");
      return asked.then(
        () => "",
        (error: unknown) => (error as { stderr: string }).stderr,
      );
    };
    expect(await failure([], "none")).toContain("Code: Unauthenticated");
    const missing = await failure(["-H", "Acme-Token: sample"], "none");
    expect(missing).toContain("Code: NotFound");
    expect(missing).toMatch(
      /"@type": "type.googleapis.com\/data.v1.DataError"[^}]*"reason": "REASON_STREAM_NOT_FOUND"/,
    );
    expect(await failure(["-H", "Acme-Token: sample"], "NO NAME")).toContain("Code: InvalidArgument");
  });

  it("works with the published definitions too", async () => {
    const options = ["-import-path", proto, "-proto", "greet/v1/greet.proto", "-H", "Acme-Token: sample"];
    const out = await grpcurl([...options, "-d", `{"name":"Ada"}`], "greet.v1.GreetService/Greet");
    expect(JSON.parse(out)).toEqual({ greeting: "Hello, Ada!" });
  });
});
