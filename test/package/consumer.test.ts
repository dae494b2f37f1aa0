import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { cp, mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { prebuildPath } from "../../src/http3/prebuild.ts";
import { tlsFiles } from "../support/http3.ts";
import { useServer } from "../support/server.ts";

const run = promisify(execFile);
const root = join(import.meta.dirname, "../..");
const tsc = join(root, "node_modules/typescript/bin/tsc");
/** For a slow machine: compiling is the most that is done here. */
const timeout = 240_000;

let dir: string;
let project: string;
let installed: string;
let readme: string;

/** Packs the package and unpacks it into a project of its own, which sees only the dependencies that it declares. */
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "sluice-package-"));
  project = join(dir, "project");
  installed = join(project, "node_modules/sluice");
  readme = await readFile(join(root, "README.md"), "utf8");

  // Packed in a copy, so that the checkout's dist/ is left alone.
  const staging = join(dir, "staging");
  const manifest = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as {
    files: string[];
    dependencies: Record<string, string>;
  };
  await mkdir(staging);
  const files = ["package.json", "README.md", "LICENSE", ...manifest.files.filter((name) => name !== "dist")];
  for (const name of files) await cp(join(root, name), join(staging, name), { recursive: true });
  await node([tsc, "-p", join(root, "tsconfig.build.json"), "--outDir", join(staging, "dist")], root);
  await run("npm", ["pack", "--ignore-scripts", "--offline", "--pack-destination", dir], { cwd: staging, timeout });
  const [tarball] = (await readdir(dir)).filter((name) => name.endsWith(".tgz"));
  if (tarball === undefined) throw new Error("npm pack made no .tgz");

  await cp(join(import.meta.dirname, "consumer"), project, { recursive: true });
  await writeFile(join(project, "package.json"), JSON.stringify({ private: true, type: "module" }));
  await mkdir(installed, { recursive: true });
  await run("tar", ["-xzf", join(dir, tarball), "--strip-components=1", "-C", installed], { timeout });
  for (const name of [...Object.keys(manifest.dependencies), "@types/node"]) {
    const link = join(project, "node_modules", name);
    await mkdir(dirname(link), { recursive: true });
    await symlink(join(root, "node_modules", name), link);
  }

  const [client, reader, server] = [...readme.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code = ""]) => code);
  for (const [name, code = ""] of Object.entries({ client, reader })) {
    await writeFile(join(project, `readme-${name}.ts`), code.replace(`"http://127.0.0.1:8080"`, urlArgument));
  }
  await writeFile(join(project, "readme-server.ts"), `${yours}${server ?? ""}`);
  await node([tsc, "-p", "."]);
}, timeout);
afterAll(() => rm(dir, { recursive: true, force: true }));

const urlArgument = `process.argv[2] ?? ""`;
/** What README leaves to its reader. */
const yours = `
import type { Interceptor } from "@connectrpc/connect";
import { GreetService as YourService } from "sluice/gen/greet/v1/greet";
const yourImplementation = {};
const yourInterceptor: Interceptor = (next) => (req) => next(req);
`;

/** Runs Node in the project; what failed is in the error. */
async function node(args: readonly string[], cwd = project): Promise<string> {
  try {
    return (await run(process.execPath, [...args], { cwd, timeout })).stdout;
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new Error(`node ${args.join(" ")} failed:\n${stdout}${stderr}`, { cause: error });
  }
}

describe("the package, as somebody else's project uses it", { timeout }, () => {
  it("has compiled code and definitions, and neither sources nor tests", async () => {
    const names = await readdir(installed, { recursive: true });
    expect(names).toEqual(expect.arrayContaining(["bin/sluice.js", "LICENSE", "proto/data/v1/data.proto"]));
    expect(names.filter((name) => /(?<!\.d)\.ts$|(^|\/)test(\/|$)/.test(name))).toEqual([]);
  });

  it("type-checks for a page too, without Node's types", async () => {
    await node([tsc, "-p", "tsconfig.page.json"]);
  });

  it("has a client that greets, appends, reads and tells failures apart", async () => {
    const { url } = await useServer();
    expect(JSON.parse(await node(["out/client.js", url]))).toEqual({
      greeting: "Hello, Ada!",
      firstSeq: 0,
      texts: ["one", "two"],
      missing: true,
    });
  });

  it("has a client for pages", async () => {
    const { url } = await useServer();
    expect(JSON.parse(await node(["out/page-in-node.js", url]))).toEqual([
      "Hello, Ada!",
      "Hello, Grace!",
      "Hello, Grace!",
    ]);
  });

  it("has a server", async () => {
    expect(JSON.parse(await node(["out/server.js"]))).toEqual({ status: 1, refused: true });
  });

  it("does what README's examples say", async () => {
    const { url } = await useServer();
    expect(await node(["out/readme-client.js", url])).toBe("0n hello\n");
    expect(await node(["out/readme-reader.js", url])).toBe("0n\n");
    // From its checkpoint on.
    expect(await node(["out/readme-reader.js", url])).toBe("");
    expect(await node(["out/readme-server.js"])).toMatch(/^http:\/\/127\.0\.0\.1:\d+\n$/);
  });

  it("has the command", async () => {
    const { url } = await useServer();
    expect(await node([join(installed, "bin/sluice.js"), "greet", "Ada", "--url", url])).toBe("Hello, Ada!\n");
  });

  it.runIf(existsSync(prebuildPath(root)))("has the engine of HTTP/3", async () => {
    const [cert, key, ca] = ["cert", "key", "ca"].map((name) => join(dir, `${name}.pem`));
    await Promise.all([
      writeFile(cert ?? "", tlsFiles.cert),
      writeFile(key ?? "", tlsFiles.key),
      writeFile(ca ?? "", tlsFiles.ca),
    ]);
    const { url } = await useServer({ tlsCert: cert, tlsKey: key, http3: true });
    const args = ["greet", "Ada", "--http3", "--url", url, "--ca", ca ?? ""];
    expect(await node([join(installed, "bin/sluice.js"), ...args])).toBe("Hello, Ada!\n");
  });
});
