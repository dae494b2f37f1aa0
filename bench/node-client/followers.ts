/**
 * Follows a stream many times: `followers.ts TARGET STREAM COUNT PER_CONNECTION`. Prints a line of JSON each second.
 *
 * The data of each record is `t=` and the time of its append in milliseconds, so that the delivery of each record to
 * each follower can be timed on the same machine.
 */
import { connect } from "node:http2";
import type { ClientHttp2Session } from "node:http2";
import { create, toBinary } from "@bufbuild/protobuf";
import { ReadRequestSchema } from "../../gen/data/v1/data_pb.ts";

export interface FollowersReport {
  /** Calls that have answered and not ended. */
  readonly open: number;
  /** Records that followers have got, in all and since the last report. */
  readonly delivered: number;
  readonly recent: number;
  /** Milliseconds from append to delivery, of the records since the last report. */
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

const mark = Buffer.from("t=");
/** Digits of a time in milliseconds, in this century and the next ones. */
const timeLength = 13;

async function main(target: string, stream: string, count: number, perConnection: number): Promise<void> {
  const request = toBinary(
    ReadRequestSchema,
    create(ReadRequestSchema, { stream, from: { case: "tailOffset", value: 0n }, follow: true }),
  );
  const body = Buffer.concat([Buffer.alloc(5), request]);
  body.writeUInt32BE(request.byteLength, 1);
  let open = 0;
  let delivered = 0;
  let latencies: number[] = [];

  function follow(session: ClientHttp2Session): Promise<void> {
    return new Promise((resolve, reject) => {
      const call = session.request({
        ":method": "POST",
        ":path": "/data.v1.DataService/Read",
        "content-type": "application/grpc",
        "acme-token": "sample",
        te: "trailers",
      });
      // A record may be cut by two chunks.
      let rest: Buffer | undefined;
      call.on("data", (chunk: Buffer) => {
        const now = Date.now();
        const bytes = rest === undefined ? chunk : Buffer.concat([rest, chunk]);
        rest = undefined;
        for (let at = bytes.indexOf(mark); at >= 0; at = bytes.indexOf(mark, at + mark.length)) {
          if (bytes.length < at + mark.length + timeLength) {
            rest = bytes.subarray(at);
            return;
          }
          delivered++;
          latencies.push(now - Number(bytes.toString("latin1", at + mark.length, at + mark.length + timeLength)));
        }
        if (bytes.at(-1) === mark[0]) rest = bytes.subarray(-1);
      });
      call.once("response", () => {
        open++;
        resolve();
      });
      call.on("error", reject);
      call.once("close", () => open--);
      call.end(body);
    });
  }

  for (let left = count; left > 0; left -= perConnection) {
    const session = connect(`http://${target}`, { settings: { enablePush: false } });
    // A follower that does not get its records in time would be a slow reader, which is another case.
    await new Promise<void>((resolve, reject) => {
      session.once("connect", () => {
        session.setLocalWindowSize(2 ** 24);
        resolve();
      });
      session.on("error", reject);
    });
    await Promise.all(Array.from({ length: Math.min(left, perConnection) }, () => follow(session)));
  }
  let before = 0;
  const report = (): void => {
    latencies.sort((a, b) => a - b);
    const at = (share: number): number => latencies[Math.floor(latencies.length * share)] ?? 0;
    const line: FollowersReport = {
      open,
      delivered,
      recent: delivered - before,
      p50: at(0.5),
      p99: at(0.99),
      max: latencies.at(-1) ?? 0,
    };
    before = delivered;
    latencies = [];
    process.stdout.write(`${JSON.stringify(line)}\n`);
  };
  report();
  setInterval(report, 1000);
}

if (import.meta.main) {
  const [target = "", stream = "", count = "0", perConnection = "100"] = process.argv.slice(2);
  await main(target, stream, Number(count), Number(perConnection));
}
