// A program in Node that uses the package with nothing but its types.
import { createSluiceClient, dataErrorOf } from "sluice/client";
import type { Ack, ReadRecord, SluiceClient } from "sluice/client";
import { DataError_Reason } from "sluice/gen/data/v1/data";

const client: SluiceClient = createSluiceClient({ url: process.argv[2] ?? "", token: "sample" });
const { greeting } = await client.greet.greet({ name: "Ada" });

const appender = client.data.appender("consumer/log", { createIfMissing: true });
const ack: Ack = await appender.append([{ data: "one" }, { data: "two" }]);
await appender.close();

const records: ReadRecord[] = [];
for await (const record of client.data.read("consumer/log", { from: "head" })) records.push(record);

let reason: DataError_Reason | undefined;
try {
  await client.data.getStream("consumer/none");
} catch (error) {
  reason = dataErrorOf(error)?.reason;
}
await client.close();

const texts = records.map(({ data }) => new TextDecoder().decode(data));
const missing = reason === DataError_Reason.STREAM_NOT_FOUND;
console.log(JSON.stringify({ greeting, firstSeq: Number(ack.firstSeq), texts, missing }));
