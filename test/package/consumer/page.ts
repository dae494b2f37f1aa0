// What a page's bundler sees: no types of Node's.
import { createSluiceWebClient } from "sluice/web";
import type { SluiceWebClient } from "sluice/web";

export async function greetings(url: string): Promise<string[]> {
  const client: SluiceWebClient = createSluiceWebClient({ url, token: "sample" });
  const seen = [(await client.greet.greet({ name: "Ada" })).greeting];
  for await (const { greeting } of client.greet.greetRepeatedly({ name: "Grace", times: 2 })) seen.push(greeting);
  // Neither works over fetch, and the types say so.
  // @ts-expect-error client streaming
  void client.greet.greetAll;
  // @ts-expect-error bidi streaming
  void client.data.exchange;
  return seen;
}
