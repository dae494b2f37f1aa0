import { PassThrough } from "node:stream";
import { expect, it } from "vitest";
import { Output } from "../../src/cli/output.ts";
import { openStdout } from "../../src/cli/sinks.ts";
import type { Sink } from "../../src/cli/sinks.ts";

const nothing: Uint8Array = new Uint8Array();

function stdoutSink(isTTY: boolean, separator = nothing): { sink: Sink; written: () => string } {
  const stdout = Object.assign(new PassThrough(), { isTTY }) as unknown as NodeJS.WriteStream;
  const out = new Output({ json: false, stdout, stderr: process.stderr, signal: new AbortController().signal });
  return {
    sink: openStdout(out, 0, separator),
    written: () => (stdout.read() as Buffer | null)?.toString("latin1") ?? "",
  };
}

const record = (data: Uint8Array) => ({ seq: 0n, uid: "", time: new Date(0), headers: {}, data });

it.each([
  { name: "a NUL", data: Buffer.from("a\0b") },
  { name: "an escape sequence", data: Buffer.from("\x1b[2Jgone") },
])("a terminal gets no data with $name in it, and a pipe gets it as it is", async ({ data }) => {
  const terminal = stdoutSink(true);
  await expect(terminal.sink.add(record(data))).rejects.toThrow(/not text.*-o FILE/);
  expect(terminal.written()).toBe("");
  const pipe = stdoutSink(false);
  await pipe.sink.add(record(data));
  expect(pipe.written()).toBe(data.toString("latin1"));
});

it("a terminal gets text, also one that ends in the middle of a character", async () => {
  const { sink, written } = stdoutSink(true, Buffer.from("\n"));
  const data = Buffer.from("tab\there\r\n\u00fc").subarray(0, -1);
  await sink.add(record(data));
  expect(written()).toBe(`${data.toString("latin1")}\n`);
});
