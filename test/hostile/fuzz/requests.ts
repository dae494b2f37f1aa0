import { envelope } from "../../support/raw.ts";
import type { Chance } from "./chance.ts";

/** What a request may be for: methods of every shape, and what is none. */
export function path(chance: Chance): string {
  return chance.of([
    "/greet.v1.GreetService/Greet",
    "/greet.v1.GreetService/GreetAll",
    "/greet.v1.GreetService/GreetRepeatedly",
    "/greet.v1.GreetService/GreetEach",
    "/data.v1.DataService/Append",
    "/data.v1.DataService/Upload",
    "/data.v1.DataService/Exchange",
    "/data.v1.DataService/Read",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/greet.v1.GreetService/Greet?connect=v1&encoding=json&message=%7B%7D",
    "/nowhere",
    "*",
    "",
    "//",
    "/\\..\\%00",
    `/${"a".repeat(chance.below(3000))}`,
  ]);
}

export function method(chance: Chance): string {
  return chance.oneIn(6) ? chance.of(["GET", "HEAD", "OPTIONS", "PUT", "CONNECT", "TRACE", "", "post", "G T"]) : "POST";
}

/** Fields as clients send them, and as none should. */
export function fields(chance: Chance): [name: string, value: string][] {
  const drawn: [string, string][] = [];
  if (!chance.oneIn(5)) drawn.push(["acme-token", chance.of(["sample", "sample", "sample", "wrong", ""])]);
  drawn.push([
    "content-type",
    chance.of([
      "application/grpc",
      "application/grpc+proto",
      "application/grpc-web+proto",
      "application/connect+proto",
      "application/connect+json",
      "application/proto",
      "application/json",
      "application/grpc-web-text",
      "text/plain; charset=x",
      "",
    ]),
  ]);
  for (let i = chance.below(4); i > 0; i--) {
    drawn.push(
      chance.of<[string, string]>([
        ["expect", chance.of(["100-continue", "100-Continue", "200-ok", ""])],
        ["te", chance.of(["trailers", "gzip", "trailers, deflate"])],
        ["grpc-timeout", chance.of(["1m", "1n", "99999999H", "-1S", "x", ""])],
        ["connect-timeout-ms", chance.of(["1", "0", "9999999999", "99999999999", "1.5"])],
        ["grpc-encoding", chance.of(["gzip", "br", "identity", "nonesuch"])],
        ["connect-content-encoding", chance.of(["gzip", "br", "nonesuch"])],
        ["content-encoding", chance.of(["gzip", "br", "nonesuch"])],
        ["grpc-accept-encoding", "gzip,br"],
        ["connect-protocol-version", chance.of(["1", "2"])],
        ["content-length", chance.of(["0", "5", "1000000", "-1", "x"])],
        ["origin", chance.of(["https://app.example", "null", "\xe9"])],
        ["access-control-request-method", "POST"],
        ["host", chance.of(["localhost", "evil.example", "", "a b", "[::1", "\xff"])],
        ["cookie", "a=b"],
        ["upgrade", chance.of(["h2c", "websocket"])],
        ["connection", chance.of(["close", "keep-alive, upgrade", "te"])],
        ["transfer-encoding", chance.of(["chunked", "gzip, chunked", "identity"])],
        ["x-bin", chance.bytes(chance.below(64)).toString("latin1")],
        ["x-large", "x".repeat(chance.of([10, 1000, 15_000, 17_000, 70_000]))],
        ["X-Upper", "a"],
        ["", "empty"],
        ["x y", "blank"],
        ["trailer", "x-after"],
      ]),
    );
  }
  return drawn;
}

/** Bytes of a body: messages in envelopes, JSON, what is cut short, and noise. */
export function body(chance: Chance): Buffer {
  const message = chance.of([
    Buffer.from([]),
    Buffer.from([0x0a, 3, 0x41, 0x64, 0x61]),
    Buffer.from('{"name":"Ada"}'),
    Buffer.from('{"open":{"stream":"fuzz/a","createIfMissing":true}}'),
    Buffer.from("{".repeat(200)),
    Buffer.from([0x7a, 0, 0x7a, 0, 0x7a, 0]),
    chance.bytes(chance.below(40)),
  ]);
  switch (chance.below(6)) {
    case 0:
      return message;
    case 1:
      return chance.bytes(chance.below(200));
    case 2:
      // A prefix that promises more than there is.
      return Buffer.concat([Buffer.from([chance.below(256), ...chance.bytes(4)]), message]);
    case 3:
      return envelope(message, chance.of([1, 2, 0x80, 0xff]));
    default:
      return Buffer.concat(Array.from({ length: chance.few() }, () => envelope(message)));
  }
}
