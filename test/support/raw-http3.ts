import { ConnectError } from "@connectrpc/connect";
import { within } from "./deadline.ts";
import { Received, put, useHttp3Client } from "./http3.ts";
import type { RawAnswer, RawCall, RawClient } from "./raw-call.ts";

/** The same as `createRawClient`, over HTTP/3, on the engine below every RPC library; until the end of the test. */
export function useRawHttp3Client(url: string): RawClient {
  const open = useHttp3Client(url);
  return {
    async call({ method = "POST", path, headers, body }: RawCall): Promise<RawAnswer> {
      const received = new Received();
      const request = { method, url: new URL(path, url).href, header: new Headers(headers) };
      const exchange = await within(30_000, "a connection", open(request, received));
      for (const chunk of body) if (typeof chunk !== "number") await put(exchange, received, chunk);
      exchange.end();
      const noAnswer = { status: 0, header: new Headers() };
      const head = await within(
        30_000,
        `the head of ${path}`,
        received.head.promise.catch(() => noAnswer),
      );
      const trailer = await within(
        30_000,
        `the end of ${path}`,
        received.end.promise.catch((error: unknown) => ConnectError.from(error)),
      );
      return {
        status: head.status,
        headers: Object.fromEntries(head.header),
        trailers: trailer instanceof ConnectError ? {} : Object.fromEntries(trailer),
        body: Buffer.concat(received.chunks),
        complete: !(trailer instanceof ConnectError),
      };
    },
    close: () => undefined,
  };
}
