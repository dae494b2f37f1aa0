import type { OpenExchange } from "../../../src/client/client-exchange.ts";
import type { Chance } from "./chance.ts";
import { body, fields, path } from "./requests.ts";

const ignored = (): void => undefined;

/** Some requests on one connection over HTTP/3, each cut, ended or left in one of the ways in which clients do. */
export async function http3Case(chance: Chance, url: string, open: OpenExchange): Promise<void> {
  const requests = Array.from({ length: chance.few() }, () => request(chance, url, open));
  await Promise.all(requests);
}

async function request(chance: Chance, url: string, open: OpenExchange): Promise<void> {
  const over = Promise.withResolvers<undefined>();
  const settle = (): void => {
    over.resolve(undefined);
  };
  const header = headerOf(chance);
  const method = chance.oneIn(8) ? chance.of(["GET", "HEAD", "OPTIONS", "PUT"]) : "POST";
  let target = `${url}/`;
  const drawn = path(chance);
  if (URL.canParse(drawn, url)) target = new URL(drawn, url).toString();
  const steps = chance.few();
  const how = chance.below(5);
  const pieces = Array.from({ length: steps }, () => [chance.below(8), body(chance)] as const);
  const exchange = await open(
    { method, url: target, header, split: chance.oneIn(3) },
    { onHead: ignored, onChunk: ignored, onEnd: settle, onError: settle, onDrain: ignored, onStopped: ignored },
  ).catch(ignored);
  if (exchange === undefined) return;
  for (const [step, bytes] of pieces) {
    if (step === 0) exchange.pause();
    else if (step === 1) exchange.resume();
    else if (step === 2) exchange.stopReceiving();
    else exchange.write([bytes], ignored);
    if (step > 5) await new Promise(setImmediate);
  }
  exchange.resume();
  if (how === 0) exchange.reset("canceled");
  else if (how === 1) exchange.reset("error");
  else exchange.end();
  // One that is left is closed with its connection.
  if (how === 2) await Promise.race([over.promise, new Promise((resolve) => setTimeout(resolve, 20))]);
}

/** What JavaScript's Headers allow. */
function headerOf(chance: Chance): Headers {
  const header = new Headers();
  for (const [name, value] of fields(chance)) {
    try {
      header.append(name, value);
    } catch {
      // No HTTP has such a header.
    }
  }
  return header;
}
