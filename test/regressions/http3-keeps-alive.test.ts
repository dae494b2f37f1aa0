import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { within } from "../support/deadline.ts";
import { tlsFiles } from "../support/http3.ts";

// The engine lets the process end; a process that only listens for HTTP/3 did, at once.
it("a process that listens for HTTP/3 stays, until it has closed", async () => {
  const dir = await mkdtemp(join(tmpdir(), "sluice-alive-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const src = new URL("../../src/", import.meta.url);
  const script = join(dir, "listen.ts");
  await writeFile(
    script,
    `import { resolveConfig } from ${JSON.stringify(new URL("config.ts", src).href)};
    import { listenHttp3 } from ${JSON.stringify(new URL("http3/listener.ts", src).href)};
    const tls = ${JSON.stringify({ cert: tlsFiles.cert, key: tlsFiles.key })};
    const listener = await listenHttp3(() => undefined, { ...resolveConfig({ port: 0 }), tls });
    process.once("SIGTERM", () => listener.close());
    process.once("beforeExit", () => console.log("nothing is left to do"));
    console.log("listening");`,
  );
  const child = spawn(process.execPath, [script], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  const said: string[] = [];
  child.stdout.setEncoding("utf8");
  await within(
    20_000,
    "listening",
    once(
      child.stdout.on("data", (text: string) => said.push(text)),
      "data",
    ),
  );
  // Not "exit": what it has said may be read later than that.
  const end = once(child, "close") as Promise<[number | null, string | null]>;
  // Whatever waits for its turn has it, so that a process with nothing to do would say so.
  const idle = await Promise.race([
    end,
    once(child.stdout, "data"),
    new Promise((resolve) => setTimeout(resolve, 500)),
  ]);
  expect([idle, said.join("")]).toEqual([undefined, "listening\n"]);
  child.kill("SIGTERM");
  expect(await within(20_000, "the end", end)).toEqual([0, null]);
  expect(said.join("")).toBe("listening\nnothing is left to do\n");
});
