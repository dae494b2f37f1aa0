import { sizeName } from "./cases.ts";

/** Questions and answers of one size, on streams of one connection. */
export interface LossCase {
  readonly size: number;
  readonly streams: number;
  /** Messages a second, of all streams together. */
  readonly rate: number;
}

/**
 * TCP's and QUIC's congestion control, which is CUBIC in both, comes to about 125 KB/s on such a link
 * (1.22 * MSS / (RTT * sqrt(loss))). These are well below: it is not the rate that is measured, but what a loss costs.
 */
const fullMatrix: readonly LossCase[] = [
  { size: 100, streams: 100, rate: 300 },
  { size: 10_240, streams: 100, rate: 6 },
];

export function lossCaseName({ size, streams }: LossCase): string {
  return `paced/${sizeName(size)}/${streams}`;
}

export function selectLossCases(only: readonly string[], quick: boolean): readonly LossCase[] {
  if (only.length === 0) return quick ? fullMatrix.slice(0, 1) : fullMatrix;
  const selected = fullMatrix.filter((what) => only.some((pattern) => lossCaseName(what).startsWith(pattern)));
  if (selected.length === 0) throw new Error(`--only ${only.join(",")} matches no case`);
  return selected;
}
