import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { pino } from "pino";
import { Writable } from "node:stream";
import { describe, expect, it, onTestFinished } from "vitest";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { within } from "../support/deadline.ts";
import { createSigner, startJwksServer } from "../support/jwks.ts";
import { useServer } from "../support/server.ts";
import { createTransport, laneName, lanes } from "../support/transports.ts";

interface LogLine {
  readonly msg?: string;
  readonly code?: string;
  readonly err?: { readonly message: string; readonly stack: string };
}

function createLines() {
  const lines: LogLine[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(JSON.parse(chunk.toString()) as LogLine);
      done();
    },
  });
  return { lines, log: pino({ base: null }, stream) };
}

describe("a JWKS URL that does not answer", () => {
  for (const lane of lanes.filter(({ tls }) => !tls)) {
    it(`${laneName(lane)}: is UNAVAILABLE without a reason, which is in the log`, async () => {
      const signer = await createSigner("one");
      const jwks = await startJwksServer(signer.jwk);
      await jwks.stop();
      const { lines, log } = createLines();
      const server = await useServer({ jwks: jwks.url }, { log });
      const token = await signer.sign();
      const made = createTransport(lane, server.url, { token });
      onTestFinished(made.close);
      const greet = createClient(GreetService, made.transport);
      const calls: (() => Promise<unknown>)[] = [
        () => greet.greet({ name: "Ada" }),
        async () => {
          for await (const _ of greet.greetRepeatedly({ name: "Ada", times: 1 }));
        },
      ];
      for (const call of calls) {
        const error = await within(
          10_000,
          "the answer",
          call().then(
            () => undefined,
            (thrown: unknown) => ConnectError.from(thrown),
          ),
        );
        expect(error?.code).toBe(Code.Unavailable);
        expect(error?.rawMessage).toBe("the keys to check tokens with cannot be read now: try again later");
        expect(error?.details).toEqual([]);
        const all = JSON.stringify([error?.rawMessage, [...(error?.metadata ?? [])]]);
        expect(all).not.toMatch(/ECONNREFUSED|jwks\.json|fetch|store/);
      }
      const errors = lines.filter(({ err }) => err !== undefined);
      expect(errors).toHaveLength(2);
      for (const { err } of errors) {
        expect(err?.message).toContain(`the keys of --jwks ${jwks.url} cannot be used`);
        expect(err?.stack).toContain("ECONNREFUSED");
      }
      expect(JSON.stringify(lines)).not.toContain(token);
    });
  }

  it("does not keep others out: a call of an open service, and with no or a malformed token", async () => {
    const jwks = await startJwksServer();
    await jwks.stop();
    const server = await useServer({ jwks: jwks.url, openServices: [] });
    for (const token of ["", "plain"]) {
      const made = createTransport({ protocol: "grpc", httpVersion: "2", tls: false }, server.url, { token });
      onTestFinished(made.close);
      await expect(createClient(GreetService, made.transport).greet({ name: "Ada" })).rejects.toMatchObject({
        code: Code.Unauthenticated,
      });
    }
  });

  it("is asked again by the next call", async () => {
    const signer = await createSigner("one");
    const jwks = await startJwksServer(signer.jwk);
    jwks.answer((res) => res.writeHead(503).end());
    const server = await useServer({ jwks: jwks.url });
    const made = createTransport({ protocol: "connect", httpVersion: "2", tls: false }, server.url, {
      token: await signer.sign(),
    });
    onTestFinished(made.close);
    const greet = createClient(GreetService, made.transport);
    await expect(greet.greet({ name: "Ada" })).rejects.toMatchObject({ code: Code.Unavailable });
    jwks.publish(signer.jwk);
    expect((await greet.greet({ name: "Ada" })).greeting).toBe("Hello, Ada!");
  });
});
