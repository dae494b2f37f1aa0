import { create, toBinary } from "@bufbuild/protobuf";
import { UploadRequestSchema } from "../gen/bench/v1/bench_pb.ts";

/** A flag and a length (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). */
export const prefixBytes = 5;

export function envelope(message: Uint8Array): Buffer {
  const buffer = Buffer.alloc(prefixBytes + message.length);
  buffer.writeUInt32BE(message.length, 1);
  buffer.set(message, prefixBytes);
  return buffer;
}

/** What all streams share. */
export class Load {
  readonly size: number;
  /** One request in its envelope, with `data` in field 1, as every message of the service has it. */
  readonly message: Buffer;
  messages = 0;
  measuring = false;
  stopped = false;
  readonly #latencies: number[] = [];

  constructor(size: number) {
    this.size = size;
    const data = new Uint8Array(size).map((_, i) => i * 31);
    this.message = envelope(toBinary(UploadRequestSchema, create(UploadRequestSchema, { data })));
  }

  /** In milliseconds. */
  record(latency: number): void {
    if (this.measuring) this.#latencies.push(latency);
  }

  /** In seconds; undefined if nothing was recorded. */
  quantile(q: number): number | undefined {
    const sorted = Float64Array.from(this.#latencies).sort();
    const value = sorted[Math.floor(q * (sorted.length - 1))];
    return value === undefined ? undefined : value / 1000;
  }
}
