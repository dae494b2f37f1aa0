import { createHash } from "node:crypto";
import { appendFile, readFile, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { FileSource, openLocalFile } from "../../src/cli/file-source.ts";
import { someBytes, tempDir } from "../support/cli.ts";

const { signal } = new AbortController();

async function openSource(path: string, chunkBytes: number): Promise<FileSource> {
  const file = await openLocalFile(path, signal);
  onTestFinished(() => file.handle.close());
  return new FileSource(file, chunkBytes);
}

async function open(data: Uint8Array, chunkBytes: number): Promise<{ source: FileSource; path: string }> {
  const path = join(await tempDir(), "file");
  await writeFile(path, data);
  return { source: await openSource(path, chunkBytes), path };
}

async function take(source: FileSource, first: number, count = Infinity): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source.chunks(first, signal)) {
    chunks.push(chunk);
    if (chunks.length >= count) break;
  }
  return Buffer.concat(chunks);
}

describe("FileSource", () => {
  const data = someBytes(1050);
  const sha256 = createHash("sha256").update(data).digest("hex");
  const hex = async (source: FileSource): Promise<string> => Buffer.from(await source.sha256(signal)).toString("hex");

  it("hashes each byte once, whatever is read again and wherever reading begins", async () => {
    const { source } = await open(data, 100);
    expect(source.chunkCount).toBe(11);
    await take(source, 0, 5);
    // As after a broken connection: some of it again, then from further on.
    expect(await take(source, 2, 2)).toEqual(Buffer.from(data.subarray(200, 400)));
    expect(await take(source, 8)).toEqual(Buffer.from(data.subarray(800)));
    expect(await hex(source)).toBe(sha256);
    expect(await hex(source)).toBe(sha256);
  });

  it.runIf(process.platform === "linux").each(["/proc/cpuinfo", "/proc/version"])(
    "reads %s to its end, whatever size it claims",
    async (path) => {
      const expected = await readFile(path);
      const source = await openSource(path, 100);
      expect(source.size).toBe(expected.length);
      expect(source.headers["file-size"]).toBe(String(expected.length));
      // The frequencies of cores change.
      expect((await take(source, 0)).toString().replace(/\d+/g, "")).toBe(expected.toString().replace(/\d+/g, ""));
      expect(await hex(source)).toHaveLength(64);
    },
  );

  it("hashes what was never read as chunks", async () => {
    const { source } = await open(data, 100);
    expect(await hex(source)).toBe(sha256);
    expect((await open(new Uint8Array(), 100)).source.chunkCount).toBe(1);
  });

  it.each([
    { name: "a longer file", change: (path: string) => appendFile(path, "more") },
    { name: "a shorter file", change: (path: string) => writeFile(path, "less") },
    { name: "a file written again", change: (path: string) => utimes(path, new Date(0), new Date(0)) },
  ])("notices $name before it is sealed", async ({ change }) => {
    const { source, path } = await open(data, 100);
    await take(source, 0, 3);
    await change(path);
    const rest = (async () => {
      await take(source, 3);
      await source.sha256(signal);
    })();
    await expect(rest).rejects.toThrow(`${path} was changed while it was pushed`);
  });
});
