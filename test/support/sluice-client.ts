import { onTestFinished } from "vitest";
import { createSluiceClient } from "../../src/client/index.ts";
import type { SluiceClient, SluiceClientOptions } from "../../src/client/index.ts";

/** A typed client with the sample token, closed at the end of the test that calls it. */
export function useSluiceClient(url: string, options: Partial<SluiceClientOptions> = {}): SluiceClient {
  const client = createSluiceClient({ url, token: "sample", ...options });
  onTestFinished(() => client.close());
  return client;
}

/** All records that a stream holds, as text. */
export async function storedTexts(client: SluiceClient, stream: string): Promise<string[]> {
  const texts: string[] = [];
  for await (const { data } of client.data.read(stream)) texts.push(Buffer.from(data).toString());
  return texts;
}

/** Every protocol over HTTP/2, and HTTP/1.1, where an appender sends one batch at a time. */
export const clientLanes = [
  { protocol: "connect", httpVersion: "2" },
  { protocol: "grpc", httpVersion: "2" },
  { protocol: "grpc-web", httpVersion: "2" },
  { protocol: "connect", httpVersion: "1.1" },
] as const;
