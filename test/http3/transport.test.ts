import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { createHttp3Transport } from "../../src/client/index.ts";
import type { Http3TransportOptions } from "../../src/client/index.ts";
import { createDevCertificates } from "../../src/listen/dev-certificate.ts";
import { within } from "../support/deadline.ts";
import { tlsFiles } from "../support/http3.ts";
import { startServer } from "../support/server.ts";

let url: string;

async function start(identity: { cert: string; key: string }): Promise<{ url: string; close: () => Promise<void> }> {
  const dir = await mkdtemp(join(tmpdir(), "sluice-transport-"));
  const files = { tlsCert: join(dir, "cert.pem"), tlsKey: join(dir, "key.pem") };
  await writeFile(files.tlsCert, identity.cert);
  await writeFile(files.tlsKey, identity.key);
  const server = await startServer({ ...files, http3: true });
  const close = async (): Promise<void> => {
    await server.close();
    await rm(dir, { recursive: true, force: true });
  };
  return { url: server.url, close };
}

beforeAll(async () => {
  const server = await start(tlsFiles);
  url = server.url;
  return server.close;
});

function useGreet(options: Partial<Http3TransportOptions> = { token: "sample" }) {
  const transport = createHttp3Transport({ baseUrl: url, ca: tlsFiles.ca, ...options });
  onTestFinished(() => {
    transport.close();
  });
  return createClient(GreetService, transport);
}

async function failureOf(call: Promise<unknown>): Promise<ConnectError> {
  const error = await within(
    20_000,
    "a failure",
    call.catch((reason: unknown) => reason),
  );
  expect(error).toBeInstanceOf(ConnectError);
  return error as ConnectError;
}

describe("createHttp3Transport", () => {
  it.each(["connect", "grpc", "grpc-web"] as const)("carries all shapes: %s", async (protocol) => {
    const greet = useGreet({ protocol, token: "sample" });
    async function* names() {
      yield { name: "Ada" };
      yield { name: "Grace" };
    }
    const each: string[] = [];
    const calls = async () => {
      const one = await greet.greet({ name: "Ada" });
      const all = await greet.greetAll(names());
      for await (const { greeting } of greet.greetRepeatedly({ name: "Ada", times: 2 })) each.push(greeting);
      for await (const { greeting } of greet.greetEach(names())) each.push(greeting);
      return [one.greeting, all.greeting, ...each];
    };
    expect(await within(20_000, "the answers", calls())).toEqual([
      "Hello, Ada!",
      "Hello, Ada and Grace!",
      "Hello, Ada!",
      "Hello, Ada!",
      "Hello, Ada!",
      "Hello, Grace!",
    ]);
  });

  it("says whether it is an unknown CA or a wrong name that it refuses", async () => {
    const other = await createDevCertificates({ hosts: ["sluice.example"], days: 1 });
    const unknown = await failureOf(useGreet({ ca: other.ca }).greet({ name: "Ada" }));
    expect(unknown.rawMessage).toContain("unknown CA");
    const elsewhere = await start(other);
    onTestFinished(elsewhere.close);
    const wrong = await failureOf(useGreet({ baseUrl: elsewhere.url, ca: other.ca }).greet({ name: "Ada" }));
    expect(wrong.rawMessage).toMatch(/name/);
    expect(wrong.rawMessage).not.toContain("unknown CA");
  });

  it("needs a token where the server does", async () => {
    const refused = await failureOf(useGreet({}).greet({ name: "Ada" }));
    expect(refused.code).toBe(Code.Unauthenticated);
  });
});
