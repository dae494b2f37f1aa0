import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Server } from "../../src/compose.ts";
import type { StreamRequest } from "../../src/index.ts";
import { deferred, within } from "../support/deadline.ts";
import { startServer } from "../support/server.ts";
import { useCertificateFiles } from "./support/certificates.ts";
import { useGoPrograms } from "./support/go.ts";
import { useProgram } from "./support/programs.ts";
import type { Program } from "./support/programs.ts";

const program = useGoPrograms("rawclient");
const files = useCertificateFiles();
const waitMs = 15_000;

let server: Server;
let asked = deferred<StreamRequest>();
let decided = deferred();
beforeAll(async () => {
  server = await startServer(
    { http3: true, tlsCert: files.cert, tlsKey: files.key },
    {
      streams: ({ onStream }) => {
        onStream("/tunnel", (request) => {
          asked.resolve(request);
          return decided.promise;
        });
      },
    },
  );
});
afterAll(() => server.close());

function ask(token = "sample"): Program {
  asked = deferred();
  decided = deferred();
  const url = `https://127.0.0.1:${server.http3Port ?? 0}/tunnel?to=a`;
  return useProgram(program("rawclient"), ["-ca", files.ca, "-token", token, "takeover", url]);
}

describe("a quic-go client that takes a stream over", () => {
  it("is allowed by its headers, and then both write, each to its own end", async () => {
    const client = ask();
    const request = await within(waitMs, "the request", asked.promise);
    expect([request.path, request.query.get("to"), request.httpVersion]).toEqual(["/tunnel", "a", "3.0"]);
    expect(client.lines).toEqual([]);
    const { readable, writable } = request.accept({ header: { "x-room": "a" } });
    decided.resolve();
    await client.printed(/^header X-Room: a$/);
    const reader = readable.getReader();
    const writer = writable.getWriter();
    for (let i = 0; i < 5; i++) {
      client.write(`ping ${i}\n`);
      const { value } = await within(waitMs, `ping ${i}`, reader.read());
      expect(Buffer.from(value ?? []).toString()).toBe(`ping ${i}`);
      await writer.write(Buffer.from(`pong ${i}`));
      await client.printed(new RegExp(`^got pong ${i}$`));
    }
    // The server's half ends first here, and the client's goes on.
    await within(waitMs, "the end of the server's half", writer.close());
    await client.printed(/^end$/);
    client.write("after\n");
    const { value } = await within(waitMs, "what comes after", reader.read());
    expect(Buffer.from(value ?? []).toString()).toBe("after");
    client.write("!close\n");
    expect((await within(waitMs, "the end of the client's half", reader.read())).done).toBe(true);
    client.end();
    expect(await within(waitMs, "the client's end", client.done)).toBe(0);
  });

  it("is denied with a status and a reason, and has sent nothing", async () => {
    const client = ask();
    client.write("secret\n");
    const request = await within(waitMs, "the request", asked.promise);
    request.deny(409, "room a is full");
    decided.resolve();
    expect(await within(waitMs, "the client's end", client.done)).toBe(0);
    expect(client.lines).toEqual(expect.arrayContaining(["head 409", "end"]));
    expect(client.stdout).toContain("room a is full");
  });

  it("needs a token, as for RPCs", async () => {
    const client = ask("wrong");
    expect(await within(waitMs, "the client's end", client.done)).toBe(0);
    expect(client.lines).toEqual(expect.arrayContaining(["head 401", "end"]));
  });
});
