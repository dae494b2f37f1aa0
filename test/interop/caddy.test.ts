import { Code, ConnectError } from "@connectrpc/connect";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { createSluiceClient } from "../../src/client/index.ts";
import type { SluiceClient } from "../../src/client/index.ts";
import type { Server } from "../../src/compose.ts";
import { runCli, someBytes, tempDir } from "../support/cli.ts";
import { deferred, until, within } from "../support/deadline.ts";
import { startServer } from "../support/server.ts";
import { freePort } from "./support/ports.ts";
import { launch, mustRun } from "./support/programs.ts";
import type { Program } from "./support/programs.ts";

const program = process.env["CADDY"] ?? "caddy";
const caddyfile = process.env["CADDYFILE"] ?? join(import.meta.dirname, "../../docs/Caddyfile");
const waitMs = 15_000;

let dir: string;
let server: Server;
let caddy: Program;
let url: string;
let ca: Buffer;
/** How many conversations the server has logged as ended by their client. */
let left = 0;

beforeAll(async () => {
  const install = "`go install github.com/caddyserver/caddy/v2/cmd/caddy@v2.11.9` and put it on the PATH, or set CADDY";
  await mustRun(program, ["version"], install);
  const lines = {
    write(line: string) {
      const { method, code } = JSON.parse(line) as { method?: string; code?: string };
      if (method === "greet.v1.GreetService/GreetEach" && code === "canceled") left++;
    },
  };
  server = await startServer({}, { log: pino({}, lines) });
  dir = await mkdtemp(join(tmpdir(), "sluice-caddy-"));
  const port = await freePort();
  // What a test must change of a whole machine's Caddy: ports, and where it keeps its CA.
  const config = join(dir, "Caddyfile");
  await writeFile(
    config,
    `{
      admin off
      auto_https disable_redirects
      skip_install_trust
      https_port ${port}
    }
    import ${caddyfile}
    `,
  );
  url = `https://localhost:${port}`;
  caddy = launch(program, ["run", "--config", config, "--adapter", "caddyfile"], {
    env: {
      SLUICE_SITE: "localhost",
      SLUICE_UPSTREAM: new URL(server.url).host,
      HOME: dir,
      XDG_DATA_HOME: dir,
      XDG_CONFIG_HOME: dir,
    },
  });
  await caddy.printed(/serving initial configuration/);
  await caddy.printed(/certificate obtained successfully/);
  ca = await readFile(join(dir, "caddy/pki/authorities/local/root.crt"));
});
afterAll(async () => {
  caddy.kill();
  await caddy.done;
  await server.close();
  await rm(dir, { recursive: true, force: true });
});

async function* named(...names: string[]): AsyncGenerator<{ name: string }> {
  for (const name of names) yield await Promise.resolve({ name });
}

type Greet = SluiceClient["greet"];

/** Gets headers and trailers of a call: both must come through. */
class Meta {
  version: string | null = null;
  count: string | null = null;
  readonly onHeader = (header: Headers): void => {
    this.version = header.get("Greet-Version");
  };
  readonly onTrailer = (trailer: Headers): void => {
    this.count = trailer.get("Greet-Count");
  };
}

/** Each fails unless the whole of the shape works. */
const shapes: Readonly<Record<string, (greet: Greet) => Promise<void>>> = {
  async unary(greet) {
    const meta = new Meta();
    expect((await greet.greet({ name: "Ada" }, meta)).greeting).toBe("Hello, Ada!");
    expect([meta.version, meta.count]).toEqual(["v1", "1"]);
  },

  async "client streaming"(greet) {
    const meta = new Meta();
    expect((await greet.greetAll(named("Ada", "Grace"), meta)).greeting).toBe("Hello, Ada and Grace!");
    expect([meta.version, meta.count]).toEqual(["v1", "1"]);
    const error: unknown = await greet.greetAll(named()).catch((reason: unknown) => reason);
    expect(ConnectError.from(error).code).toBe(Code.InvalidArgument);
  },

  async "server streaming"(greet) {
    const meta = new Meta();
    const greetings: string[] = [];
    for await (const { greeting } of greet.greetRepeatedly({ name: "Ada", times: 3 }, meta)) greetings.push(greeting);
    expect(greetings).toEqual(["Hello, Ada!", "Hello, Ada!", "Hello, Ada!"]);
    expect([meta.version, meta.count]).toEqual(["v1", "3"]);
    // The next one is an hour away: the first must not wait for it.
    const interval = { seconds: 3600n };
    for await (const _ of greet.greetRepeatedly({ name: "Ada", times: 2, interval })) break;
  },

  async "bidi streaming"(greet) {
    const meta = new Meta();
    const greetings: string[] = [];
    let answered = deferred();
    async function* inTurn(): AsyncGenerator<{ name: string }> {
      for (const name of ["Ada", "Grace", "Edsger"]) {
        answered = deferred();
        yield { name };
        await within(waitMs, `the answer to ${name}`, answered.promise);
      }
    }
    for await (const { greeting } of greet.greetEach(inTurn(), meta)) {
      greetings.push(greeting);
      answered.resolve();
    }
    expect(greetings).toEqual(["Hello, Ada!", "Hello, Grace!", "Hello, Edsger!"]);
    expect([meta.version, meta.count]).toEqual(["v1", "3"]);
  },
};

const protocols = { connect: "Connect", grpc: "gRPC", "grpc-web": "gRPC-Web" } as const;
/** Whether each shape got through, in the order of the shapes, by the row of the table. */
const outcomes = new Map<string, string[]>();

for (const httpVersion of ["3", "2"] as const) {
  for (const protocol of ["connect", "grpc", "grpc-web"] as const) {
    const row = `${protocols[protocol]}, HTTP/${httpVersion}`;
    describe(`through Caddy, ${row}`, () => {
      for (const [shape, call] of Object.entries(shapes)) {
        it(`gets ${shape} through`, async () => {
          const cells = outcomes.get(row) ?? [];
          outcomes.set(row, cells);
          const cell = cells.push("no") - 1;
          const client = createSluiceClient({ url, token: "sample", ca, protocol, httpVersion });
          try {
            await within(2 * waitMs, shape, call(client.greet));
            cells[cell] = "yes";
          } finally {
            await client.close();
          }
        });
      }

      it("lets the server know when a client leaves", async () => {
        const client = createSluiceClient({ url, token: "sample", ca, protocol, httpVersion });
        onTestFinished(() => client.close());
        const before = left;
        async function* endless(): AsyncGenerator<{ name: string }> {
          yield { name: "Ada" };
          await new Promise(() => undefined);
        }
        for await (const _ of client.greet.greetEach(endless())) break;
        await until(waitMs, "the end of the call", () => left > before);
      });
    });
  }
}

describe("a file through Caddy", () => {
  for (const flags of [["--http3"], ["--http-version", "2"]]) {
    it(`is pushed and pulled with ${flags.join(" ")}`, async () => {
      const own = await tempDir();
      const [file, copy, caFile] = ["file", "copy", "ca.pem"].map((name) => join(own, name)) as [
        string,
        string,
        string,
      ];
      const bytes = someBytes(16 * 1024 * 1024);
      await Promise.all([writeFile(file, bytes), writeFile(caFile, ca)]);
      const common = ["--url", url, "--ca", caFile, "--token", "sample", ...flags];
      const stream = `files/caddy${flags.join("")}`;
      const pushed = await runCli(["push", stream, file, ...common]);
      expect([pushed.code, pushed.stderr]).toEqual([0, ""]);
      const pulled = await runCli(["pull", stream, "-o", copy, ...common]);
      expect([pulled.code, pulled.stderr]).toEqual([0, ""]);
      expect((await readFile(copy)).equals(bytes)).toBe(true);
    });
  }
});

it("docs/http3.md has the table of what gets through", async () => {
  const docs = (await readFile(join(import.meta.dirname, "../../docs/http3.md"), "utf8")).replace(/ +/g, " ");
  const rows = [...outcomes].map(([row, cells]) => `| ${row} | ${cells.join(" | ")} |`);
  expect(rows).toHaveLength(6);
  for (const row of rows) expect(docs).toContain(row);
});
