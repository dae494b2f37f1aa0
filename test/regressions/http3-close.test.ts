import { expect, it } from "vitest";
import { deferred, within } from "../support/deadline.ts";
import { Received, useHttp3, useHttp3Connection } from "../support/http3.ts";

// One in ten was not told when a connection was closed soon after it had been opened: it waited for the idle timeout.
it("a server over HTTP/3 is told when a client closes its connection, however young that is", async () => {
  let closed = deferred<boolean>();
  const { url } = await useHttp3((exchange) => {
    exchange.onClose(closed.resolve);
    exchange.receive({ onChunk: () => undefined, onEnd: () => undefined });
    exchange.sendHead(200, new Headers());
  });
  for (let i = 0; i < 40; i++) {
    closed = deferred();
    const { open, close } = useHttp3Connection(url);
    const received = new Received();
    await open({ method: "POST", url, header: new Headers() }, received);
    await within(10_000, "the head", received.head.promise);
    close();
    expect(await within(10_000, "the end", closed.promise)).toBe(false);
  }
});
