import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Server } from "../../src/compose.ts";
import { jsonLines } from "../support/cli.ts";
import { startServer } from "../support/server.ts";
import { useGoPrograms } from "./support/go.ts";
import { runProgram } from "./support/programs.ts";

const program = useGoPrograms("producerclient");

let server: Server;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server.close());

/** What the program is answered, step by step. */
async function produce(protocol: string, call: string): Promise<Record<string, unknown>[]> {
  const args = [`-protocol=${protocol}`, `-call=${call}`, `-stream=${protocol}/${call}`, new URL(server.url).host];
  const { code, stdout, stderr } = await runProgram(program("producerclient"), args);
  expect([code, stderr]).toEqual([0, ""]);
  return jsonLines(stdout);
}

/** How often the program sends its first batch again, with the headers of its records in whatever order Go's maps have. */
const repeats = 20;

const refused = { code: "failed_precondition" };
const conflict = { ...refused, reason: "PRODUCER_CONFLICT", next: 2 };
const gap = { ...refused, reason: "PRODUCER_GAP", next: 2 };
const fenced = { ...refused, reason: "PRODUCER_FENCED", currentEpoch: 2 };

const stored = { a: { firstSeq: 0, nextSeq: 2 }, b: { firstSeq: 2, nextSeq: 3 } };
const storedLater = { a: { firstSeq: 3, nextSeq: 5 }, b: { firstSeq: 5, nextSeq: 6 } };
const again = Array.from({ length: repeats }, () => ({ ...stored.a, duplicate: true }));

/** What each call that appends is answered besides. */
const answers = {
  append: {
    both: { acks: [stored.a, stored.b] },
    again: { acks: again },
    later: [{ acks: [storedLater.a] }, { acks: [storedLater.b] }],
  },
  upload: {
    both: { summary: { firstSeq: 0, nextSeq: 3, records: 3 } },
    // It has stored nothing: its positions are the tail.
    again: { summary: { firstSeq: 3, nextSeq: 3, duplicateBatches: repeats } },
    later: [{ summary: { firstSeq: 3, nextSeq: 5, records: 2 } }, { summary: { firstSeq: 5, nextSeq: 6, records: 1 } }],
  },
  exchange: {
    both: { acks: [stored.a, stored.b], next: 0 },
    again: { acks: again, next: 2 },
    later: [
      { acks: [storedLater.a], next: 0 },
      { acks: [storedLater.b], next: 1 },
    ],
  },
};

describe("a producer in Go", () => {
  for (const protocol of ["connect", "connect-http1", "connect-grpc", "grpc-web", "grpc"]) {
    for (const call of ["append", "upload", "exchange"] as const) {
      // Full duplex needs HTTP/2.
      if (protocol === "connect-http1" && call === "exchange") continue;
      it(`claims its id, repeats itself, and is fenced, over ${protocol} with ${call}`, async () => {
        const { both, again, later } = answers[call];
        expect(await produce(protocol, call)).toEqual([
          { step: "claim", epoch: 1 },
          { step: "two batches", ...both },
          { step: "the first again and again", ...again },
          { step: "encodings", encodings: true },
          { step: "other content under its number", ...conflict },
          { step: "fewer records under its number", ...conflict },
          { step: "a number too high", ...gap },
          { step: "claim again", epoch: 2 },
          { step: "under the old epoch", ...fenced },
          { step: "the first of the new epoch", ...later[0] },
          { step: "behind it", ...later[1] },
          { step: "read", records: ["a", "b", "c", "a", "b", "e"] },
        ]);
      });
    }
  }
});
