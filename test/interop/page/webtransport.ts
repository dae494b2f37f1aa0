/** What the WebTransport test calls: each function runs in the page, and gives plain values back. */
import { Code, ConnectError } from "@connectrpc/connect";
import { createSluiceBrowserClient } from "../../../src/client/web.ts";
import type { SluiceBrowserClient } from "../../../src/client/web.ts";

export interface Where {
  /** Of HTTP/3. */
  readonly url: string;
  /** SHA-256 of the server's certificate. */
  readonly hash: readonly number[];
  /** For fetch, if it has another one. */
  readonly fetchUrl?: string;
  readonly token?: string;
  readonly path?: string;
}

const clients = new Map<string, SluiceBrowserClient>();

/** One for each place and token, so that calls share a session. */
function clientOf(where: Where): SluiceBrowserClient {
  const { url, fetchUrl = url, hash, token = "sample", path } = where;
  const key = JSON.stringify(where);
  let client = clients.get(key);
  if (client === undefined) {
    client = createSluiceBrowserClient({
      url: fetchUrl,
      token,
      retry: { attempts: 0 },
      webTransport: {
        baseUrl: url,
        serverCertificateHashes: [Uint8Array.from(hash)],
        ...(path === undefined ? {} : { path }),
      },
    });
    clients.set(key, client);
  }
  return client;
}

async function* names(): AsyncGenerator<{ name: string }> {
  yield await Promise.resolve({ name: "Ada" });
  yield { name: "Grace" };
}

/** `[code] message` of what the work fails with. */
async function outcome(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "none",
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

/** What `sluice` does with a file, in records of 64 KiB. */
const recordBytes = 64 * 1024;

const page = {
  async carrier(where: Where): Promise<string> {
    const carrier = await clientOf(where).transport.carrier();
    return carrier.kind === "fetch" ? `fetch: ${carrier.because}` : carrier.kind;
  },

  async greet(where: Where): Promise<string> {
    return (await clientOf(where).greet.greet({ name: "Ada" })).greeting;
  },

  async greetAll(where: Where): Promise<string> {
    return (await clientOf(where).greet.greetAll(names())).greeting;
  },

  async greetRepeatedly(where: Where): Promise<string[]> {
    const responses = clientOf(where).greet.greetRepeatedly({ name: "Ada", times: 3 });
    return (await all(responses)).map(({ greeting }) => greeting);
  },

  /** Sends each name only once the one before has been greeted. */
  async greetEach(where: Where): Promise<string[]> {
    const greeted: string[] = [];
    let wake = Promise.withResolvers<undefined>();
    async function* inTurn(): AsyncGenerator<{ name: string }> {
      for (const name of ["Ada", "Grace", "Edsger"]) {
        wake = Promise.withResolvers();
        yield { name };
        await wake.promise;
      }
    }
    for await (const { greeting } of clientOf(where).greet.greetEach(inTurn())) {
      greeted.push(greeting);
      wake.resolve(undefined);
    }
    return greeted;
  },

  async exchange(where: Where, stream: string): Promise<{ acked: string[]; read: string[] }> {
    const exchange = clientOf(where).data.exchange(stream, { createIfMissing: true, read: { follow: true } });
    const read: string[] = [];
    const three = Promise.withResolvers<undefined>();
    const reading = (async () => {
      for await (const event of exchange.events) {
        if (event.kind === "record") read.push(new TextDecoder().decode(event.record.data));
        if (read.length === 3) three.resolve(undefined);
      }
    })();
    const sends = ["a", "b", "c"].map((data) => exchange.send([{ data }]));
    const acked = (await Promise.all(sends)).map(({ firstSeq }) => String(firstSeq));
    await three.promise;
    exchange.close();
    await reading.catch(() => undefined);
    return { acked, read };
  },

  /** How many bytes the server has stored, and how often it said how far it was. */
  async upload(where: Where, stream: string, bytes: number): Promise<{ stored: number; progress: number[] }> {
    const { data } = clientOf(where);
    const progress: number[] = [];
    const source = new Uint8Array(recordBytes).fill(7);
    async function* records(): AsyncGenerator<{ data: Uint8Array<ArrayBuffer> }> {
      for (let sent = 0; sent < bytes; sent += recordBytes) yield await Promise.resolve({ data: source });
    }
    const appender = data.appender(stream, { createIfMissing: true });
    let stored = 0;
    for await (const record of records()) {
      await appender.ready();
      appender.append([record]).then(
        () => {
          stored += recordBytes;
          progress.push(stored);
        },
        () => undefined,
      );
    }
    await appender.close();
    return { stored, progress };
  },

  /** Uploads by client streaming. */
  async uploadStream(where: Where, stream: string, count: number): Promise<string> {
    async function* records(from: bigint): AsyncGenerator<{ data: string }> {
      for (let i = Number(from); i < count; i++) yield await Promise.resolve({ data: String(i) });
    }
    return String((await clientOf(where).data.upload(stream, records, { createIfMissing: true })).tail);
  },

  failure: (where: Where): Promise<string> => outcome(clientOf(where).data.getStream("absent")),

  clientStreamingFailure: (where: Where): Promise<string> => outcome(clientOf(where).greet.greetAll(names())),

  bidiFailure: (where: Where): Promise<string> => outcome(all(clientOf(where).greet.greetEach(names()))),

  /** An error with details, from a stream. */
  async details(where: Where): Promise<{ message: string; details: number }> {
    const responses = clientOf(where).data.read("absent");
    try {
      await all(responses);
      return { message: "none", details: 0 };
    } catch (error) {
      const { message, details } = ConnectError.from(error);
      return { message, details: details.length };
    }
  },

  /** Waits for a server that says nothing. */
  deadline: (where: Where): Promise<string> => {
    const never = new ReadableStream<{ name: string }>();
    return outcome(all(clientOf(where).greet.greetEach(never, { timeoutMs: 300 })));
  },

  /** Leaves a following read as soon as it has begun. */
  async leave(where: Where, stream: string): Promise<void> {
    const { data } = clientOf(where);
    await data.append(stream, [{ data: "a" }], { createIfMissing: true });
    for await (const _ of data.read(stream, { follow: true })) break;
  },

  /** Begins a following read, and tells what it ends with. */
  async follow(where: Where, stream: string): Promise<string> {
    try {
      for await (const _ of clientOf(where).data.read(stream, { follow: true }));
      return "none";
    } catch (error) {
      return Code[ConnectError.from(error).code];
    }
  },

  close(where: Where): void {
    clientOf(where).close();
  },
};

export type Page = typeof page;
Object.assign(globalThis, { page });
