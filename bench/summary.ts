import type { CaseResult } from "./measure.ts";
import type { Measurement } from "./load-program.ts";
import { median, medianRatio } from "./statistics.ts";
import type { Figure, Target } from "./targets.ts";

/** The medians of one contender in one case. */
export interface Figures {
  readonly messagesPerSecond: number;
  readonly megabytesPerSecond: number;
  /** Of the server, in seconds. */
  readonly cpuPerMillionMessages: number;
  /** The same for each gigabyte of data. */
  readonly cpuPerGigabyte: number;
  /** The part of one core that the server used; on more than one, above 1. */
  readonly serverCores: number;
  /** The part of one core that the client used: near or above 1, it may be what limits. */
  readonly clientCores: number;
  readonly peakMemoryBytes: number;
  readonly p50Seconds: number | undefined;
  readonly p99Seconds: number | undefined;
}

/** Sluice against one contender in one case. More is better. */
export interface Comparison {
  readonly contender: string;
  readonly figure: Figure;
  readonly ratio: number;
  readonly target: Target | undefined;
}

export interface CaseSummary {
  readonly name: string;
  readonly figures: Readonly<Record<string, Figures>>;
  readonly comparisons: readonly Comparison[];
}

/** How a case is judged. */
export interface Judgement {
  /** Whether the time that an answer takes matters. */
  readonly latency: boolean;
  /** What Sluice is to reach against a contender, if anything. */
  readonly targetFor: (contender: string) => Target | undefined;
}

export function summarize(
  { name, rounds }: CaseResult,
  contenders: readonly string[],
  judgement: Judgement,
): CaseSummary {
  const measured = new Map(
    contenders.map((contender) => [contender, rounds.flatMap((round) => round[contender] ?? [])]),
  );
  const [first, ...others] = contenders;
  const ours = (first === undefined ? undefined : measured.get(first)) ?? [];
  return {
    name,
    figures: Object.fromEntries([...measured].map(([contender, its]) => [contender, figuresOf(its)])),
    comparisons: others.flatMap((contender) => {
      // The targets are Sluice's: without it, others are only compared.
      const target = first === "sluice" ? judgement.targetFor(contender) : undefined;
      return compare(contender, judgement.latency, target, ours, measured.get(contender) ?? []);
    }),
  };
}

function figuresOf(measurements: readonly Measurement[]): Figures {
  const middle = (figure: (m: Measurement) => number): number => median(measurements.map(figure));
  const latency = (figure: (m: Measurement) => number | undefined): number | undefined =>
    measurements.some((m) => figure(m) === undefined) ? undefined : middle((m) => figure(m) ?? NaN);
  return {
    messagesPerSecond: middle(rate),
    megabytesPerSecond: middle((m) => m.bytes / m.seconds / 1e6),
    cpuPerMillionMessages: middle((m) => (m.serverCpuSeconds / m.messages) * 1e6),
    cpuPerGigabyte: middle((m) => (m.serverCpuSeconds / m.bytes) * 1e9),
    serverCores: middle((m) => m.serverCpuSeconds / m.seconds),
    clientCores: middle((m) => m.clientCpuSeconds / m.seconds),
    peakMemoryBytes: Math.max(...measurements.map((m) => m.peakMemoryBytes)),
    p50Seconds: latency((m) => m.p50Seconds),
    p99Seconds: latency((m) => m.p99Seconds),
  };
}

function compare(
  contender: string,
  withLatency: boolean,
  target: Target | undefined,
  ours: readonly Measurement[],
  theirs: readonly Measurement[],
): Comparison[] {
  const speed: Comparison = {
    contender,
    figure: "messages/s",
    ratio: medianRatio(ours.map(rate), theirs.map(rate)),
    target: target?.figure === "messages/s" ? target : undefined,
  };
  if (!withLatency) return [speed];
  // Theirs by ours, as less is better.
  const latency: Comparison = {
    contender,
    figure: "p99",
    ratio: medianRatio(theirs.map(p99), ours.map(p99)),
    target: target?.figure === "p99" ? target : undefined,
  };
  return [speed, latency];
}

function rate({ messages, seconds }: Measurement): number {
  return messages / seconds;
}

function p99({ p99Seconds }: Measurement): number {
  return p99Seconds ?? NaN;
}
