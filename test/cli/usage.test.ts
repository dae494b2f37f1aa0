import { spawnSync } from "node:child_process";
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { exitCodes } from "../../src/cli/exit-codes.ts";
import { clientOptions, serverOptions } from "../../src/config.ts";
import { jsonLines, runCli, spawnCli, startServer, tempDir, useServer } from "../support/cli.ts";

const commands = [
  ["serve"],
  ["greet"],
  ["push"],
  ["pull"],
  ["tail"],
  ["chat"],
  ["streams", "list"],
  ["streams", "show"],
  ["streams", "create"],
  ["streams", "trim"],
  ["streams", "seal"],
  ["streams", "delete"],
  ["health"],
  ["cert"],
  ["demo"],
];
/** Nothing listens on port 1 of loopback. */
const nowhere = ["--url", "http://127.0.0.1:1"];

describe("--help", () => {
  it("of the program names every command and every exit code", async () => {
    const { code, stdout } = await runCli(["--help"]);
    expect(code).toBe(0);
    for (const [name] of commands) expect(stdout).toMatch(new RegExp(`^  ${name} `, "m"));
    for (const { code: number, meaning } of Object.values(exitCodes)) {
      if (meaning !== "") expect(stdout).toContain(`${String(number).padEnd(4)} ${meaning}`);
    }
  });

  it.each(commands)("of %s %s has examples and --json", async (...command) => {
    const { code, stdout } = await runCli([...command, "--help"]);
    expect(code).toBe(0);
    expect(stdout).toContain("Examples:\n  $ sluice ");
    expect(stdout).toContain("--json");
  });

  it("of serve shows every option with its variable", async () => {
    const { stdout } = await runCli(["serve", "--help"]);
    const text = stdout.replace(/\s+/g, " ");
    for (const { flag, env } of Object.values(serverOptions)) {
      expect(text).toContain(`--${flag} `);
      expect(text).toContain(`env: ${env})`);
    }
  });

  it("of a client command shows every option with its variable", async () => {
    const { stdout } = await runCli(["greet", "--help"]);
    for (const { flag, env } of Object.values(clientOptions)) {
      expect(stdout).toContain(`--${flag} `);
      expect(stdout).toContain(env);
    }
  });
});

describe("a wrong command line", () => {
  it.each([
    { args: [], says: "Usage: sluice" },
    { args: ["pussh", "x"], says: "(Did you mean push?)" },
    { args: ["greet", "Ada", "--shap", "all"], says: "(Did you mean --shape?)" },
    { args: ["greet"], says: "missing required argument 'name'" },
    { args: ["greet", "Ada", "--shape", "round"], says: "Allowed choices are unary, all, repeatedly, each" },
    { args: ["greet", "Ada", "--times", "0"], says: "--times must be a whole number from 1 to 1000000" },
    { args: ["greet", "Ada", "--protocol", "soap"], says: "--protocol must be one of connect, grpc, grpc-web" },
    { args: ["greet", "Ada", "--timeout", "soon"], says: "--timeout must be a duration such as" },
    { args: ["greet", "Ada", "--url", "localhost"], says: "--url must be a URL such as" },
    { args: ["greet", "Ada", "--url", "http://127.0.0.1:1/?a=b"], says: "no `user:password@`, `?` or `#`" },
    { args: ["greet", "Ada", "--url", "http://ada:secret@127.0.0.1:1"], says: "no `user:password@`, `?` or `#`" },
    { args: ["greet", "Ada", "--protocol", "grpc", "--http-version", "1.1"], says: "gRPC needs HTTP/2" },
    { args: ["serve", "--port", "99999"], says: "--port must be a whole number, from 0 to 65535" },
    { args: ["serve", "--host", "0.0.0.0"], says: "refusing to listen on 0.0.0.0 without --tokens-file" },
    { args: ["serve", "--tls-cert", "cert.pem"], says: "--tls-cert and --tls-key must be given together" },
    { args: ["greet", "Ada", "--cert", "cert.pem"], says: "--cert and --key must be given together" },
    { args: ["streams", "trim", "x", "y"], says: "<before-seq> must be a whole number" },
    { args: ["tail", "x", "--from", "yesterday"], says: "--from must be head, tail, a seq" },
  ])("$args says what is wrong, and ends with 2", async ({ args, says }) => {
    const { code, stdout, stderr } = await runCli(args);
    expect(stderr).toContain(says);
    expect(stdout).toBe("");
    expect(code).toBe(exitCodes.usage.code);
    expect(stderr).not.toMatch(/^ {4}at /m);
  });

  it("counts variables as it counts flags", async () => {
    const { code, stderr } = await runCli(["serve"], { env: { SLUICE_PORT: "http" } });
    expect(stderr).toContain("SLUICE_PORT must be a whole number");
    expect(code).toBe(exitCodes.usage.code);
  });

  it.each([[["greet", "Ada", "--shap", "all", "--json"]], [["greet", "Ada", "--times", "0", "--json"]]])(
    "with --json says it in JSON: %s",
    async (args) => {
      const { code, stderr } = await runCli(args);
      expect(jsonLines(stderr)).toEqual([{ error: expect.any(String) as string, exit: exitCodes.usage.code }]);
      expect(code).toBe(exitCodes.usage.code);
    },
  );
});

describe("without a server", () => {
  it.each([
    ["greet", "Ada"],
    ["push", "x", import.meta.filename],
    ["push", "x", "-"],
    ["pull", "x"],
    ["tail", "x"],
    ["chat", "x"],
    ["streams", "list"],
    ["health"],
  ])("%s says so at once, and ends with 5", async (...args) => {
    const { code, stderr } = await runCli([...args, ...nowhere]);
    expect(stderr).toContain("http://127.0.0.1:1 cannot be reached");
    expect(stderr).toContain("sluice serve");
    expect(code).toBe(exitCodes.unavailable.code);
  });

  it("says it in JSON", async () => {
    const { stderr } = await runCli(["health", "--json", ...nowhere]);
    expect(jsonLines(stderr)).toMatchObject([{ code: "unavailable", exit: 5 }]);
  });

  it("shows a stack only to somebody who asks for it", async () => {
    const env = { SLUICE_LOG_LEVEL: "debug" };
    expect((await runCli(["health", ...nowhere], { env })).stderr).toMatch(/^ {4}at /m);
    expect((await runCli(["health", ...nowhere])).stderr).not.toMatch(/^ {4}at /m);
  });
});

describe("the wrong scheme", () => {
  it.each(["2", "1.1"])("is told on either side, over HTTP/%s", async (version) => {
    const dir = await tempDir();
    expect((await runCli(["cert", "--out", dir])).code).toBe(0);
    const tls = await startServer(["--tls-cert", join(dir, "cert.pem"), "--tls-key", join(dir, "key.pem")]);
    const clear = await startServer();
    const greet = (url: string) => runCli(["greet", "Ada", "--http-version", version, "--url", url]);

    const plain = await greet(tls.url.replace("https:", "http:"));
    expect(plain.stderr).toMatch(/broke .*; if it speaks TLS, --url begins with https:/);
    expect(plain.code).toBe(exitCodes.unavailable.code);
    const secured = await greet(clear.url.replace("http:", "https:"));
    expect(secured.stderr).toMatch(/cannot be reached: no TLS .*--url begins with http:/);
    expect(secured.stderr).not.toContain("openssl");
    expect(secured.code).toBe(exitCodes.unavailable.code);
  });
});

describe("the token", () => {
  const server = useServer();
  const url = (): string[] => ["--url", server.url];

  it("is the sample on loopback", async () => {
    expect((await runCli(["greet", "Ada", ...url()])).stdout).toBe("Hello, Ada!\n");
  });

  it.each([
    { name: "none", token: "", says: "no token provided" },
    { name: "a wrong one", token: "wrong-and-secret", says: "invalid token" },
  ])("may be $name: then the exit code is 3, and it is not shown", async ({ token, says }) => {
    for (const command of [
      ["greet", "Ada"],
      ["push", "x", "-"],
      ["pull", "x"],
      ["chat", "x"],
    ]) {
      const { code, stdout, stderr } = await runCli([...command, "--token", token, ...url()], { stdin: "line\n" });
      expect(stderr).toContain(says);
      expect(stderr).toContain("SLUICE_TOKEN");
      expect(code).toBe(exitCodes.denied.code);
      expect(stdout + stderr).not.toContain("secret");
    }
  });

  it("is not shown even if it cannot be sent", async () => {
    const { code, stderr } = await runCli(["greet", "Ada", ...url()], {
      env: { SLUICE_TOKEN: "secret\n", SLUICE_LOG_LEVEL: "debug" },
    });
    expect(stderr).toContain("the token has a character in it");
    expect(stderr).not.toContain("secret");
    expect(code).toBe(exitCodes.usage.code);
  });

  it("may allow less than is asked for", async () => {
    const { createHash } = await import("node:crypto");
    const file = join(await tempDir(), "tokens.json");
    const sha256 = createHash("sha256").update("limited").digest("hex");
    await writeFile(file, JSON.stringify({ tokens: [{ name: "limited", sha256, scopes: ["data:write:logs/*"] }] }));
    const limited = await startServer(["--tokens-file", file]);
    const run = (args: string[], stdin = ""): ReturnType<typeof runCli> =>
      runCli([...args, "--url", limited.url, "--token", "limited"], { stdin });
    const denied = await run(["greet", "Ada"]);
    expect(denied.stderr).toContain("greet");
    expect(denied.code).toBe(exitCodes.denied.code);
    // Who may only write can still append.
    const allowed = await run(["push", "logs/a", "-"], "one\ntwo\n");
    expect(allowed.stderr).toBe("");
    expect(allowed.stdout).toBe("appended 2 lines to logs/a: seq 0 to 1\n");
  });
});

describe("the launcher", () => {
  const bin = join(import.meta.dirname, "../../bin/sluice.js");

  it("works through a link, from any directory, without warnings", async () => {
    const { code, stdout, stderr } = await runCli(["--version"], { cwd: await tempDir() });
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(stderr).toBe("");
    expect(code).toBe(0);
  });

  it("tells an old Node what to do", () => {
    // An old Node is not at hand on every machine, so that this one calls itself old.
    const old = `Object.defineProperty(process.versions, "node", { value: "20.20.2" })`;
    const { status, stderr } = spawnSync(
      process.execPath,
      ["--import", `data:text/javascript,${encodeURIComponent(old)}`, bin, "--version"],
      { encoding: "utf8" },
    );
    expect(stderr).toMatch(
      /^sluice needs Node 22\.12 or newer, and this is 20\.20\.2\..*npm start.*npm rebuild node.*\n$/,
    );
    expect(status).toBe(1);
  });
});

describe("standard output", () => {
  it("may be closed early, which is no failure", async () => {
    const server = await startServer();
    const cli = spawnCli(["greet", "Ada", "--shape", "repeatedly", "--times", "1000000", "--url", server.url], {
      stdin: "",
    });
    await cli.printed(/Hello/);
    cli.closeStdout();
    expect(await cli.done).toMatchObject({ code: 0, stderr: "" });
  });

  it("has no colours and no bars without a terminal", async () => {
    const server = await startServer();
    const file = join(await tempDir(), "file");
    await writeFile(file, "x".repeat(100_000));
    const pushed = await runCli(["push", "file", file, "--url", server.url]);
    const failed = await runCli(["pull", "nothing", "--url", server.url]);
    // eslint-disable-next-line no-control-regex -- escape sequences are what this is about
    for (const { stdout, stderr } of [pushed, failed]) expect(stdout + stderr).not.toMatch(/[\u001b\r]/);
    expect(pushed.stderr).toBe("");
    expect(failed.stderr).toMatch(/^error: /);
    expect(failed.code).toBe(exitCodes.notFound.code);
  });
});

describe("cert", () => {
  it("makes what a server and a client need, and overwrites nothing", async () => {
    const dir = await tempDir();
    const out = join(dir, "certs");
    const made = await runCli(["cert", "--out", out, "--json"]);
    expect(made.code).toBe(0);
    const [files] = jsonLines(made.stdout) as [Record<string, string>];
    const tls = ["--tls-cert", files["cert"] ?? "", "--tls-key", files["key"] ?? ""];
    const server = await startServer(tls);
    expect(server.url).toMatch(/^https:/);
    const trusted = await runCli(["greet", "Ada", "--url", server.url, "--ca", files["ca"] ?? ""]);
    expect(trusted).toMatchObject({ code: 0, stdout: "Hello, Ada!\n" });
    const untrusted = await runCli(["greet", "Ada", "--url", server.url]);
    expect(untrusted.stderr).toContain("--ca");
    expect(untrusted.code).toBe(exitCodes.unavailable.code);

    const again = await runCli(["cert", "--out", out]);
    expect(again.stderr).toContain("--force");
    expect(again.code).toBe(exitCodes.conflict.code);
    expect((await runCli(["cert", "--out", out, "--force"])).code).toBe(0);
  });

  it("keeps the keys from other users", async () => {
    const dir = await tempDir();
    await runCli(["cert", "--out", dir]);
    for (const name of ["key.pem", "ca-key.pem"]) expect((await stat(join(dir, name))).mode & 0o777).toBe(0o600);
    for (const name of ["cert.pem", "ca.pem", "key.pem", "ca-key.pem"]) {
      expect(await readFile(join(dir, name), "utf8")).toMatch(/-----END [A-Z ]+-----\n$/);
    }
  });

  it("says what is wrong with the directory", async () => {
    const dir = await tempDir();
    await writeFile(join(dir, "file"), "");
    await mkdir(join(dir, "dir"));
    const { code, stderr } = await runCli(["cert", "--out", join(dir, "file", "below")]);
    expect(stderr).toContain("cannot be written");
    expect(code).toBe(exitCodes.failure.code);
  });
});
