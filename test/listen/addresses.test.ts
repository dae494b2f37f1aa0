import { networkInterfaces } from "node:os";
import { describe, expect, it, onTestFinished } from "vitest";
import { createSluiceClient } from "../../src/client/index.ts";
import { runCli, startServer } from "../support/cli.ts";
import { useServer } from "../support/server.ts";

const loopbacks = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
const hasIPv6 = loopbacks.some(({ address }) => address === "::1");

describe("an address to listen on", () => {
  it.skipIf(!hasIPv6).each(["::1", "[::1]"])("may be %s: the URL has brackets, and clients call it", async (host) => {
    const { url } = await startServer(["--host", host]);
    expect(url).toMatch(/^http:\/\/\[::1\]:\d+$/);
    expect((await runCli(["greet", "Ada", "--url", url])).stdout).toBe("Hello, Ada!\n");
    for (const wire of [
      { protocol: "connect", httpVersion: "1.1" },
      { protocol: "connect", httpVersion: "2" },
      { protocol: "grpc", httpVersion: "2" },
      { protocol: "grpc-web", httpVersion: "1.1" },
    ] as const) {
      const client = createSluiceClient({ url, token: "sample", ...wire });
      onTestFinished(() => client.close());
      expect((await client.greet.greet({ name: "Ada" })).greeting).toBe("Hello, Ada!");
      const greetings: string[] = [];
      for await (const { greeting } of client.greet.greetRepeatedly({ name: "Ada", times: 2 }))
        greetings.push(greeting);
      expect(greetings).toHaveLength(2);
    }
  });

  it.skipIf(!hasIPv6)("of the metrics may be ::1 too", async () => {
    const server = await useServer({ adminPort: 0, adminHost: "::1" });
    expect(server.adminUrl).toMatch(/^http:\/\/\[::1\]:\d+\/metrics$/);
    expect((await fetch(server.adminUrl ?? "")).status).toBe(200);
  });

  it.skipIf(!hasIPv6)("of IPv6 gives peers with brackets in the log", async () => {
    const { url, cli } = await startServer(["--host", "::1"]);
    await runCli(["greet", "Ada", "--url", url]);
    expect(cli.stderr).toMatch(/"peer":"\[::1\]:\d+"/);
  });

  it("may be localhost", async () => {
    const { url } = await startServer(["--host", "localhost"]);
    expect(url).toMatch(/^http:\/\/localhost:\d+$/);
    expect((await runCli(["greet", "Ada", "--url", url])).stdout).toBe("Hello, Ada!\n");
  });

  it.each(["::", "[::]", "0.0.0.0", "::ffff:127.0.0.1", "0:0:0:0:0:0:0:1", "127.1"])(
    "that is not plainly loopback, such as %s, needs tokens",
    async (host) => {
      const { code, stderr } = await runCli(["serve", "--port", "0", "--store", "memory", "--host", host]);
      expect(stderr).toContain(`refusing to listen on ${host} without --tokens-file or --jwks`);
      expect(code).toBe(2);
    },
  );

  it("that is not one of the machine's is refused", async () => {
    // TEST-NET-1 (RFC 5737): nobody has it.
    const sample = ["--jwks", "http://127.0.0.1:1/jwks.json"];
    const { code, stderr } = await runCli([
      "serve",
      "--port",
      "0",
      "--store",
      "memory",
      "--host",
      "192.0.2.1",
      ...sample,
    ]);
    expect(stderr).toContain("--host 192.0.2.1 is not an address of this machine");
    expect(code).toBe(2);
  });
});
