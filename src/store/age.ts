/**
 * How old records are, by a clock that may have been wrong.
 *
 * The times that readers see never go backwards within a stream: after a clock
 * that was ahead once, they stand still until the clock has caught up. For
 * retention such a time says nothing. Then what counts is what the clock said
 * at the arrival, or, if that is in the future too, when it was first noticed.
 */

import type { StreamInfo } from "./store.ts";

/** When records were stored, in milliseconds since the Unix epoch. */
export interface Times {
  readonly firstSeq: number;
  readonly timeMs: number;
  readonly arrivalMs: number;
}

/** What a sweep has noted of a stream whose newest time was in the future. */
export interface Noticed {
  /** All records below this seq had arrived ... */
  readonly beforeSeq: number;
  /** ... by this time. */
  readonly timeMs: number;
  /** The newest time that the stream had then. */
  readonly aheadMs: number;
  /** What the clock said at the newest arrival since; absent: there has been none. */
  readonly arrivalMs?: number;
}

/** By how much a time may be in the future without a clock that has been ahead, in milliseconds. */
const toleranceMs = 60_000;

/** The time from which the age of a batch is counted; now, if there is nothing else to go by. */
export function ageFrom({ firstSeq, timeMs, arrivalMs }: Times, noticed: Noticed | undefined, nowMs: number): number {
  if (timeMs <= nowMs) return timeMs;
  if (arrivalMs <= nowMs) return arrivalMs;
  return noticed !== undefined && firstSeq < noticed.beforeSeq ? Math.min(noticed.timeMs, nowMs) : nowMs;
}

/** What a sweep is to note about the stream, so that its records age from now on; undefined if nothing. */
export function notice(
  { appendTimeMs: aheadMs, tail }: Pick<StreamInfo, "appendTimeMs" | "tail">,
  noted: Noticed | undefined,
  nowMs: number,
): Noticed | undefined {
  const latestMs = nowMs + toleranceMs;
  if (aheadMs === undefined || aheadMs <= latestMs) return undefined;
  // The newest time stands still when the clock is ahead anew, by less than before.
  const { arrivalMs = 0 } = noted ?? {};
  const isNoted = noted !== undefined && noted.aheadMs >= aheadMs && noted.timeMs <= latestMs && arrivalMs <= latestMs;
  return isNoted ? undefined : { beforeSeq: tail, timeMs: nowMs, aheadMs };
}

/** What is noted, once another batch has arrived. */
export function noteArrival(noted: Noticed, arrivalMs: number): Noticed {
  return { ...noted, arrivalMs: Math.max(noted.arrivalMs ?? 0, arrivalMs) };
}
