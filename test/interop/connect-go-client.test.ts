import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Server } from "../../src/compose.ts";
import { jsonLines } from "../support/cli.ts";
import { startServer } from "../support/server.ts";
import { useCertificateFiles } from "./support/certificates.ts";
import { useGoPrograms } from "./support/go.ts";
import { runProgram } from "./support/programs.ts";

const program = useGoPrograms("greetclient");
const files = useCertificateFiles();

let server: Server;
beforeAll(async () => {
  server = await startServer({ http3: true, tlsCert: files.cert, tlsKey: files.key });
});
afterAll(() => server.close());

async function greet(...flags: string[]): Promise<Record<string, unknown>[]> {
  const args = ["-ca", files.ca, ...flags, `https://127.0.0.1:${server.http3Port ?? 0}`];
  const { code, stdout, stderr } = await runProgram(program("greetclient"), args);
  expect([code, stderr]).toEqual([0, ""]);
  return jsonLines(stdout);
}

const version = "v1";
const once = ["Hello, Ada!"];

describe("connect-go over quic-go", () => {
  for (const flags of [
    ["-protocol", "connect"],
    ["-protocol", "connect", "-json"],
    ["-protocol", "connect", "-get"],
    ["-protocol", "grpc"],
    ["-protocol", "grpc-web"],
  ]) {
    it(`calls each shape with ${flags.join(" ")}, headers and trailers included`, async () => {
      expect(await greet(...flags)).toEqual([
        { call: "Greet", greetings: once, version, count: "1" },
        { call: "GreetAll", greetings: ["Hello, Ada and Grace!"], version, count: "1" },
        { call: "GreetRepeatedly", greetings: [...once, ...once, ...once], version, count: "3" },
        { call: "GreetEach", greetings: [...once, "Hello, Grace!", "Hello, Edsger!"], version, count: "3" },
        { call: "GreetAll without a name", code: "invalid_argument", version, count: "0" },
        { call: "GreetRepeatedly with a deadline", greetings: once, code: "deadline_exceeded" },
      ]);
    });

    it(`is refused without a right token with ${flags.join(" ")}`, async () => {
      const outcomes = await greet(...flags, "-token", "wrong");
      expect(outcomes.map(({ code }) => code)).toEqual(outcomes.map(() => "unauthenticated"));
      expect(outcomes).toHaveLength(6);
    });
  }
});
