/** What the browser test calls: each function runs in the page, and gives plain values back. */
import { createSluiceWebClient } from "../../../src/client/web.ts";
import type { SluiceWebClient } from "../../../src/client/web.ts";

interface Lane {
  readonly url: string;
  readonly protocol: "connect" | "grpc-web";
}

function clientOf({ url, protocol }: Lane): SluiceWebClient {
  return createSluiceWebClient({ url, protocol, token: "sample", retry: { attempts: 0 } });
}

const page = {
  async greet(lane: Lane): Promise<string> {
    return (await clientOf(lane).greet.greet({ name: "Ada" })).greeting;
  },

  async greetRepeatedly(lane: Lane): Promise<string[]> {
    const greetings: string[] = [];
    const request = { name: "Ada", times: 5, interval: { nanos: 10_000_000 } };
    for await (const { greeting } of clientOf(lane).greet.greetRepeatedly(request)) greetings.push(greeting);
    return greetings;
  },

  /** The first of two greetings, of which the second is an hour away. */
  async firstGreeting(lane: Lane): Promise<string> {
    const request = { name: "Ada", times: 2, interval: { seconds: 3600n } };
    for await (const { greeting } of clientOf(lane).greet.greetRepeatedly(request)) return greeting;
    return "none";
  },

  /** Follows a stream while it appends to it, and leaves after the last record. */
  async appendAndFollow(lane: Lane, stream: string): Promise<{ acked: string[]; read: string[] }> {
    const { data } = clientOf(lane);
    await data.createStream(stream);
    const texts = ["a", "b", "c"];
    const read: string[] = [];
    const caughtUp = Promise.withResolvers<undefined>();
    const following = (async () => {
      const options = { follow: true, onCaughtUp: () => caughtUp.resolve(undefined) };
      for await (const record of data.read(stream, options)) {
        read.push(new TextDecoder().decode(record.data));
        if (read.length === texts.length) break;
      }
    })();
    await caughtUp.promise;
    const acked: string[] = [];
    for (const text of texts) acked.push(String((await data.append(stream, [{ data: text }])).firstSeq));
    await following;
    return { acked, read };
  },

  async appender(lane: Lane, stream: string): Promise<string> {
    const { data } = clientOf(lane);
    const appender = data.appender(stream, { createIfMissing: true });
    const acks = Array.from({ length: 20 }, (_, i) => appender.append([{ data: String(i) }]));
    await appender.close();
    return String((await Promise.all(acks)).at(-1)?.nextSeq);
  },

  async failure(lane: Lane): Promise<string> {
    try {
      await clientOf(lane).data.getStream("absent");
      return "none";
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  },
};

export type Page = typeof page;
Object.assign(globalThis, { page });
