import { mkdtemp, readdir, rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { StoreClaim } from "../../src/store/lmdb-claim.ts";
import { openLmdbStore } from "../../src/store/lmdb.ts";
import { problem, records } from "../contract/store-contract.ts";
import { until, within } from "../support/deadline.ts";

async function useDir(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "sluice-claim-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

/** A socket as a process has it that answers those who connect with this. */
async function usePeer(dir: string, nonce: string, answer: (socket: Socket) => void): Promise<() => void> {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(join(dir, `owner-${nonce}.sock`), resolve));
  const close = (): void => {
    server.close();
  };
  onTestFinished(close);
  return close;
}

it("of many that open a store at once, one at a time does, and all do", async () => {
  const dir = await useDir();
  let open = 0;
  let most = 0;
  const take = async (): Promise<void> => {
    const claim = await StoreClaim.take(dir);
    most = Math.max(most, ++open);
    await new Promise((resolve) => setTimeout(resolve, 5));
    open--;
    claim.close();
  };
  await within(20_000, "all of them", Promise.all(Array.from({ length: 8 }, take)));
  expect(most).toBe(1);
  expect(await readdir(dir)).toEqual([]);
});

it("of many stores that are opened at once, one is", async () => {
  const dir = await useDir();
  const outcomes = await Promise.all(
    Array.from({ length: 6 }, () =>
      openLmdbStore({ dir, maxBytes: 2 ** 30, producerTtlMs: 1000 }).then(
        (store) => store,
        (error: unknown) => problem(Promise.reject(error as Error)),
      ),
    ),
  );
  const stores = outcomes.filter((outcome) => typeof outcome !== "string");
  expect(stores).toHaveLength(1);
  expect(outcomes.filter((outcome) => outcome === "store-locked")).toHaveLength(5);
  for (const store of stores) await store.close();
});

it("a process that is about to open a store is waited for, and an owner of any version is not", async () => {
  const dir = await useDir();
  const close = await usePeer(dir, "ffffffff", (socket) => socket.write("sluice opening 1\n"));
  let taken = false;
  const taking = StoreClaim.take(dir).then((claim) => {
    taken = true;
    claim.close();
  });
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(taken).toBe(false);
  close();
  await within(10_000, "the claim", taking);

  const closeOwner = await usePeer(dir, "00000000", (socket) => socket.end("sluice owner 77\n"));
  await expect(StoreClaim.take(dir)).rejects.toThrow(/process 77 has it/);
  closeOwner();
  await usePeer(dir, "00000001", (socket) => socket.destroy());
  await expect(StoreClaim.take(dir)).rejects.toThrow(/another process has it/);
});

it("whatever is said to an owner, it goes on", async () => {
  const dir = await useDir();
  const warnings: string[] = [];
  const onWarning = (message: string): void => void warnings.push(message);
  const store = await openLmdbStore({ dir, maxBytes: 2 ** 30, producerTtlMs: 1000, onWarning });
  onTestFinished(() => store.close());
  const large = records("x".repeat(1_000_000));
  for (let i = 0; i < 5; i++) await store.append({ stream: "s", createIfMissing: true }, { records: large });
  const [name = ""] = (await readdir(dir)).filter((each) => each.endsWith(".sock"));
  const said = [
    "nonsense\n",
    "{}\n",
    '{"do":"delete"}\n',
    "x".repeat(1000),
    "",
    '{"do":"check"}\n',
    '{"do":"backup"}\n',
  ];
  for (const text of said) {
    for (const cut of [false, true]) {
      const socket = connect(join(dir, name));
      socket.on("error", () => undefined);
      let answer = 0;
      socket.on("data", (chunk: Buffer) => {
        answer += chunk.length;
        if (cut) socket.destroy();
      });
      const closed = new Promise((resolve) => socket.once("close", resolve));
      socket.end(text);
      await within(20_000, `the end after ${JSON.stringify(text.slice(0, 20))}`, closed);
      expect(answer).toBeGreaterThan(0);
    }
  }
  await store.append({ stream: "s" }, { records: records("y") });
  expect((await store.get("s")).tail).toBe(6);
  await until(10_000, "the warnings", () => warnings.length >= 3);
  expect(warnings.join("\n")).toMatch(/there is no such request: \{"do":"delete"\}/);
});
