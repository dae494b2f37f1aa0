/** What the WebTransport test calls: each function runs in the page, and gives plain values back. */
import { Code, ConnectError } from "@connectrpc/connect";
import { createSluiceBrowserClient } from "../../../src/client/web.ts";
import type { SluiceBrowserClient } from "../../../src/client/web.ts";

export interface Where {
  /** Of HTTP/3. */
  readonly url: string;
  /** SHA-256 of the server's certificate, in hexadecimal. */
  readonly hash: string;
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
        serverCertificateHashes: [hash],
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

let followed = 0;

/** What `sluice` does with a file, in records of 64 KiB. */
const recordBytes = 64 * 1024;

/** What a stream that is made by hand sends, and whether it then ends. */
export interface RawStream {
  readonly bytes: readonly number[];
  readonly open?: boolean;
}

export interface RawOutcome {
  /** What came back on each stream, or the code that it was reset with. */
  readonly streams: readonly (string | number)[];
  readonly closeCode: number | undefined;
  readonly reason: string;
}

async function rawStream(transport: WebTransport, { bytes, open = false }: RawStream): Promise<string | number> {
  const stream = await transport.createBidirectionalStream();
  const writer = (stream.writable as WritableStream<Uint8Array>).getWriter();
  writer.closed.catch(() => undefined);
  writer.write(Uint8Array.from(bytes)).catch(() => undefined);
  if (!open) writer.close().catch(() => undefined);
  const reader = (stream.readable as ReadableStream<BufferSource>).pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) text += next.value;
    return text;
  } catch (error) {
    const { source, streamErrorCode } = error as WebTransportError;
    return source === "session" ? "the session ended" : (streamErrorCode ?? String(error));
  }
}

const page = {
  /** A session with streams that are made by hand; closed when they are over, unless one is open: then the server is to close it. */
  raw: (where: Where, streams: readonly RawStream[]): Promise<RawOutcome> => page.rawAfter(where, undefined, streams),

  /** The same, with a first message that is answered before they are opened. */
  async rawAfter(
    { url, hash, path = "/webtransport" }: Where,
    opening: readonly number[] | undefined,
    streams: readonly RawStream[],
  ): Promise<RawOutcome> {
    const value = Uint8Array.from(hash.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
    const transport = new WebTransport(url + path, { serverCertificateHashes: [{ algorithm: "sha-256", value }] });
    try {
      await (transport.ready as Promise<unknown>);
    } catch {
      transport.closed.catch(() => undefined);
      return { streams: [], closeCode: undefined, reason: "refused" };
    }
    if (opening !== undefined) await rawStream(transport, { bytes: opening });
    const outcomes = await Promise.all(streams.map((stream) => rawStream(transport, stream)));
    if (streams.every(({ open }) => open !== true)) transport.close();
    // A page may hear of the end of the connection before it hears why: then it gets neither.
    const { closeCode, reason = "" } = await transport.closed.catch((): WebTransportCloseInfo => ({ reason: "lost" }));
    return { streams: outcomes, closeCode, reason };
  },

  /** Sends a datagram again and again until one has come back. */
  async datagram(where: Where, text: string): Promise<string> {
    const carrier = await clientOf(where).transport.carrier();
    if (carrier.kind === "fetch") throw new Error(carrier.because);
    const { admitted, datagrams } = await carrier.transport.session();
    await admitted;
    const received = Promise.withResolvers<string>();
    datagrams.onReceive((bytes) => received.resolve(new TextDecoder().decode(bytes)));
    let sent = 0;
    let tries = 0;
    const timer = setInterval(() => {
      tries++;
      if (datagrams.send(new TextEncoder().encode(text))) sent++;
    }, 20);
    const patience = setTimeout(() => {
      received.reject(
        new Error(`none has come back: ${tries} tries, ${sent} sent, at most ${datagrams.maxSize} bytes`),
      );
    }, 20_000);
    try {
      return await received.promise;
    } finally {
      clearInterval(timer);
      clearTimeout(patience);
    }
  },

  async carrier(where: Where): Promise<string> {
    const carrier = await clientOf(where).transport.carrier();
    return carrier.kind === "fetch" ? `fetch: ${carrier.because}` : carrier.kind;
  },

  async greet(where: Where): Promise<string> {
    return (await clientOf(where).greet.greet({ name: "Ada" })).greeting;
  },

  /** Calls again what may be called again. */
  async greetRetrying(where: Where): Promise<string> {
    try {
      return await page.greet(where);
    } catch (error) {
      if (ConnectError.from(error).code !== Code.Unavailable) throw error;
      return page.greet(where);
    }
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

  /** Appends for a while, whatever happens to the session, and reads what that comes to. */
  async appendOn(where: Where, stream: string, batches: number): Promise<{ read: string[]; retries: number }> {
    const { data } = clientOf(where);
    let retries = 0;
    const onRetry = (): void => {
      retries++;
    };
    const retry = { attempts: 10, baseDelayMs: 10 };
    const appender = data.appender(stream, { createIfMissing: true, onRetry, retry });
    for (let i = 0; i < batches; i++) await appender.append([{ data: String(i) }]);
    await appender.close();
    const records = await all(data.read(stream, { retry }));
    return { read: records.map((record) => new TextDecoder().decode(record.data)), retries };
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

  /** How many records following reads have brought. */
  follows: (_where: Where): number => followed,

  /** Follows a stream with one record, and tells what that ends with. */
  async follow(where: Where, stream: string): Promise<string> {
    const { data } = clientOf(where);
    await data.append(stream, [{ data: "a" }], { createIfMissing: true });
    try {
      for await (const _ of data.read(stream, { follow: true })) followed++;
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
