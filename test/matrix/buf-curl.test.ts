import { execFile } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Server } from "../../src/compose.ts";
import { startServer } from "../support/server.ts";

const buf = join(import.meta.dirname, "../../node_modules/.bin/buf");

let server: Server;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server.close());

/** Calls a method as README shows it, without a schema: reflection has to tell. */
async function curl(protocol: string, method: string, data: string, extra: string[] = []): Promise<unknown[]> {
  const args = ["curl", "--http2-prior-knowledge", "--protocol", protocol, "-H", "Acme-Token: sample", ...extra];
  const out = await new Promise<string>((resolve, reject) => {
    execFile(buf, [...args, "-d", data, `${server.url}/${method}`], { timeout: 60_000 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`buf curl failed: ${stderr}`, { cause: error }));
    });
  });
  // One JSON value after the other.
  return JSON.parse(`[${out.trim().replace(/\}\s*\{/g, "},{")}]`) as unknown[];
}

for (const protocol of ["connect", "grpc", "grpcweb"]) {
  describe(`buf curl --protocol ${protocol}`, () => {
    const greet = (method: string, data: string) => curl(protocol, `greet.v1.GreetService/${method}`, data);
    const data = (method: string, body: string) => curl(protocol, `data.v1.DataService/${method}`, body);
    const names = `{"name":"Ada"}{"name":"Grace"}`;

    it("greets in each shape", async () => {
      expect(await greet("Greet", `{"name":"Ada"}`)).toEqual([{ greeting: "Hello, Ada!" }]);
      expect(await greet("GreetAll", names)).toEqual([{ greeting: "Hello, Ada and Grace!" }]);
      expect(await greet("GreetRepeatedly", `{"name":"Ada","times":2,"interval":"0.01s"}`)).toEqual([
        { greeting: "Hello, Ada!" },
        { greeting: "Hello, Ada!" },
      ]);
      expect(await greet("GreetEach", names)).toEqual([{ greeting: "Hello, Ada!" }, { greeting: "Hello, Grace!" }]);
    });

    it("stores, reads and exchanges records", async () => {
      const stream = `curl/${protocol}`;
      const append = (text: string) => `{"append":{"records":[{"data":"${Buffer.from(text).toString("base64")}"}]}}`;
      expect(await data("CreateStream", `{"name":"${stream}"}`)).toMatchObject([{ stream: { name: stream } }]);
      expect(await data("Append", `{"stream":"${stream}","records":[{"data":"YQ=="}]}`)).toMatchObject([
        { nextSeq: "1", durability: "DURABILITY_MEMORY" },
      ]);
      expect(await data("Upload", `{"open":{"stream":"${stream}"}}${append("b")}${append("c")}`)).toMatchObject([
        { firstSeq: "1", nextSeq: "3", records: "2", bytes: "2" },
      ]);
      expect(await data("Exchange", `{"open":{"stream":"${stream}","read":{}}}${append("d")}`)).toContainEqual({
        ack: { firstSeq: "3", nextSeq: "4", durability: "DURABILITY_MEMORY" },
      });
      const read = await data("Read", `{"stream":"${stream}"}`);
      expect(JSON.stringify(read).match(/"data":"[^"]+"/g)).toEqual(
        ["a", "b", "c", "d"].map((text) => `"data":"${Buffer.from(text).toString("base64")}"`),
      );
      expect(await data("GetStream", `{"name":"${stream}"}`)).toMatchObject([{ stream: { tail: "4" } }]);
    });

    it("checks health", async () => {
      expect(await curl(protocol, "grpc.health.v1.Health/Check", "{}")).toEqual([{ status: "SERVING" }]);
    });
  });
}
