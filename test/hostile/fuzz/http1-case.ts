import type { Chance } from "./chance.ts";
import { body, fields, method, path } from "./requests.ts";

/** The bytes of one connection over HTTP/1.1: some requests, one behind the other, with a fault here and there. */
export function http1Case(chance: Chance): Buffer {
  const bytes = Buffer.concat(Array.from({ length: chance.few() }, () => request(chance)));
  if (chance.oneIn(8)) {
    for (let i = chance.few(); i > 0; i--) bytes[chance.below(bytes.byteLength)] = chance.below(256);
  }
  return chance.oneIn(5) ? bytes.subarray(0, chance.below(bytes.byteLength)) : bytes;
}

function request(chance: Chance): Buffer {
  const version = chance.oneIn(8) ? chance.of(["HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "http/1.1", ""]) : "HTTP/1.1";
  const target = chance.oneIn(10) ? `http://evil.example${path(chance)}` : path(chance);
  const end = chance.oneIn(20) ? "\n" : "\r\n";
  const lines = [`${method(chance)} ${target} ${version}`];
  if (!chance.oneIn(10)) lines.push("Host: localhost");
  for (const [name, value] of fields(chance)) lines.push(`${name}:${chance.of([" ", "", "\t", " \r\n "])}${value}`);
  const content = body(chance);
  let payload: Buffer = content;
  switch (chance.below(4)) {
    case 0:
      lines.push("Transfer-Encoding: chunked");
      payload = chunked(chance, content);
      break;
    case 1:
      break;
    default:
      lines.push(`Content-Length: ${content.byteLength + (chance.oneIn(6) ? chance.below(20) : 0)}`);
  }
  return Buffer.concat([Buffer.from(`${lines.join(end)}${end}${end}`, "latin1"), payload]);
}

function chunked(chance: Chance, content: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < content.byteLength;) {
    const length = 1 + chance.below(content.byteLength - at);
    const size = chance.oneIn(15) ? chance.of(["ffffffffffffffff", "-1", "x", "0"]) : length.toString(16);
    const extension = chance.oneIn(10) ? `;a="${"b".repeat(chance.below(200))}"` : "";
    parts.push(Buffer.from(`${size}${extension}\r\n`), content.subarray(at, at + length), Buffer.from("\r\n"));
    at += length;
  }
  if (chance.oneIn(4)) return Buffer.concat(parts);
  return Buffer.concat([...parts, Buffer.from(chance.oneIn(6) ? "0\r\nx-after: 1\r\n\r\n" : "0\r\n\r\n")]);
}
