import { sizes } from "./cases.ts";
import type { Case } from "./cases.ts";

/** What a ratio is of. Every ratio is written so that more is better for Sluice. */
export type Figure = "messages/s" | "p99";

export interface Target {
  readonly figure: Figure;
  /** The least ratio that is good enough. */
  readonly atLeast: number;
}

/** What Sluice is to reach against a contender, if anything. */
export function targetFor({ shape, size, streams }: Case, contender: string): Target | undefined {
  if (shape === "unary") {
    return streams > 1 ? target("p99", { "connect-node": 1, "grpc-js": 1 }, contender) : undefined;
  }
  if (size === sizes["100B"] && streams === 1) {
    return target("messages/s", { "connect-node": 10, "grpc-js": 3, "connect-go": 1, "grpc-go": 1 }, contender);
  }
  if (size === sizes["64KiB"] && streams === 1 && (shape === "upload" || shape === "download")) {
    const ratios = { "connect-node": 5, "grpc-js": 2, http2: 0.6, "connect-go": 1, "grpc-go": 1 };
    return target("messages/s", ratios, contender);
  }
  if (size === sizes["100B"] && streams === 1000) {
    return target("messages/s", { "connect-node": 5, "grpc-js": 2, "connect-go": 0.7, "grpc-go": 0.7 }, contender);
  }
  return undefined;
}

function target(figure: Figure, ratios: Readonly<Record<string, number>>, contender: string): Target | undefined {
  const atLeast = ratios[contender];
  return atLeast === undefined ? undefined : { figure, atLeast };
}
