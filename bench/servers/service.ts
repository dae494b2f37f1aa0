import type { ConnectRouter, ServiceImpl } from "@connectrpc/connect";
import { BenchService } from "../gen/bench/v1/bench_pb.ts";

/** The service as somebody would write it, for every runtime that serves Connect's routers. */
const service: ServiceImpl<typeof BenchService> = {
  unary: (request) => ({ data: request.data }),
  async upload(requests) {
    let messages = 0;
    let bytes = 0;
    for await (const { data } of requests) {
      messages++;
      bytes += data.length;
    }
    return { messages: BigInt(messages), bytes: BigInt(bytes) };
  },
  async *download(request) {
    const data = new Uint8Array(request.size);
    const messages = request.messages === 0n ? Infinity : Number(request.messages);
    for (let sent = 0; sent < messages; sent++) yield { data };
  },
  async *echo(requests) {
    for await (const { data } of requests) yield { data };
  },
};

export function routes(router: ConnectRouter): void {
  router.service(BenchService, service);
}
