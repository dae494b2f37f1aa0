/** @grpc/grpc-js in its defaults, with the same definition. */
import { Server, ServerCredentials, loadPackageDefinition } from "@grpc/grpc-js";
import type {
  GrpcObject,
  ServerDuplexStream,
  ServerReadableStream,
  ServerUnaryCall,
  ServerWritableStream,
  ServiceClientConstructor,
  sendUnaryData,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { join } from "node:path";
import { announce } from "./announce.ts";

interface Data {
  readonly data: Uint8Array;
}

const definition = loadSync("bench/v1/bench.proto", {
  includeDirs: [join(import.meta.dirname, "../proto")],
  // As protobuf-es has them; strings would cost less than Longs.
  longs: String,
});
const loaded = loadPackageDefinition(definition) as unknown as { bench: { v1: GrpcObject } };
const { service } = loaded.bench.v1["BenchService"] as ServiceClientConstructor;

const server = new Server();
server.addService(service, {
  unary(call: ServerUnaryCall<Data, Data>, callback: sendUnaryData<Data>) {
    callback(null, { data: call.request.data });
  },
  upload(
    call: ServerReadableStream<Data, { messages: number; bytes: number }>,
    callback: sendUnaryData<{ messages: number; bytes: number }>,
  ) {
    let messages = 0;
    let bytes = 0;
    call.on("data", ({ data }: Data) => {
      messages++;
      bytes += data.length;
    });
    call.on("error", () => undefined);
    call.on("end", () => {
      callback(null, { messages, bytes });
    });
  },
  download(call: ServerWritableStream<{ readonly messages: string; readonly size: number }, Data>) {
    const data = new Uint8Array(call.request.size);
    // A field that is not set is absent.
    const messages = Number(call.request.messages) || Infinity;
    let sent = 0;
    const fill = (): void => {
      while (!call.cancelled && sent < messages) {
        sent++;
        if (!call.write({ data })) return;
      }
      if (sent >= messages) call.end();
    };
    call.on("error", () => undefined);
    call.on("drain", fill);
    fill();
  },
  echo(call: ServerDuplexStream<Data, Data>) {
    call.on("data", ({ data }: Data) => {
      if (!call.write({ data })) call.pause();
    });
    call.on("drain", () => call.resume());
    call.on("error", () => undefined);
    call.on("end", () => {
      call.end();
    });
  },
});
server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
  if (error !== null) throw error;
  announce(port);
});
