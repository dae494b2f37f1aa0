import { expect, it } from "vitest";
import type { SluiceClient } from "../../src/client/index.ts";
import { reasonOf } from "../support/data-errors.ts";
import { startServerProcess } from "../support/server-process.ts";
import { useSluiceClient } from "../support/sluice-client.ts";

const fillings: [string, (client: SluiceClient, i: number) => Promise<unknown>][] = [
  ["streams", ({ data }, i) => data.createStream(`s${i}`)],
  ["producers", ({ data }, i) => data.claimProducer("s", `p${i}`, { createIfMissing: true })],
  ["empty records", ({ data }) => data.append("s", [{ data: "" }], { createIfMissing: true })],
  [
    "many empty records at once",
    ({ data }) =>
      data.append(
        "s",
        Array.from({ length: 1000 }, () => ({ data: "" })),
        { createIfMissing: true },
      ),
  ],
  [
    "headers",
    ({ data }, i) =>
      data.append(
        "s",
        [{ data: "", headers: Object.fromEntries(Array.from({ length: 50 }, (_, j) => [`h${i}-${j}`, ""])) }],
        {
          createIfMissing: true,
        },
      ),
  ],
  ["large records", ({ data }) => data.append("s", [{ data: new Uint8Array(500_000) }], { createIfMissing: true })],
];

it.each(fillings)(
  "a store in memory that is filled with %s refuses more, and does not end the process",
  async (_, add) => {
    // What the server takes without it, and once more what it may take.
    const nodeOptions = ["--max-old-space-size=54"];
    const server = await startServerProcess(["--store", "memory", "--max-store-bytes", "6MiB"], { nodeOptions });
    const client = useSluiceClient(server.url, { protocol: "connect", httpVersion: "2" });
    let reason = "none";
    for (let i = 0; reason === "none" && i < 200_000; i += 100) {
      const several = Array.from({ length: 100 }, (_, j) => reasonOf(add(client, i + j)));
      reason = (await Promise.all(several)).find((each) => each !== "none") ?? "none";
    }
    expect(reason).toBe("STORE_FULL");
    await client.data.deleteStream("s").catch(() => client.data.deleteStream("s0"));
    await add(client, 1_000_000);
  },
);
