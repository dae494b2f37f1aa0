import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";
import type { CallRecord } from "../runtime/running-calls.ts";
import type { MemoryBudget } from "../runtime/memory-budget.ts";

/** What the server counts, for Prometheus. One registry a server, so that several can live in one process. */
export interface Metrics {
  readonly registry: Registry;
  observe(record: CallRecord): void;
  /** Counts an error that was caught where nobody expected one. */
  unexpectedError(): void;
  /** Counts a request to a path that is none of a method. The path is no label: it is the peer's to choose. */
  countUnknownPath(): void;
}

/** Seconds. Unary calls take milliseconds, streams up to a day. */
const durationBuckets = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 300, 3600];

/** `gauges` are read when the metrics are asked for. */
export function createMetrics(gauges: {
  activeCalls: () => number;
  connections: () => number;
  memory: () => MemoryBudget;
}): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  const calls = new Counter({
    name: "sluice_calls_total",
    help: "Calls that have ended",
    labelNames: ["method", "shape", "protocol", "code"],
    registers,
  });
  const duration = new Histogram({
    name: "sluice_call_duration_seconds",
    help: "How long calls took",
    labelNames: ["method"],
    buckets: durationBuckets,
    registers,
  });
  const messages = new Counter({
    name: "sluice_messages_total",
    help: "Messages of calls that have ended",
    labelNames: ["method", "direction"],
    registers,
  });
  const bytes = new Counter({
    name: "sluice_bytes_total",
    help: "Body bytes of calls that have ended",
    labelNames: ["method", "direction"],
    registers,
  });
  const unexpectedErrors = new Counter({
    name: "sluice_unexpected_errors_total",
    help: "Errors that nobody expected: each is in the log with its stack, and is a bug in the server or in a handler",
    registers,
  });
  const unknownPaths = new Counter({
    name: "sluice_unknown_path_requests_total",
    help: "Requests to paths that are none of a method or stream",
    registers,
  });
  new Gauge({
    name: "sluice_calls_active",
    help: "Calls in flight",
    registers,
    collect() {
      this.set(gauges.activeCalls());
    },
  });
  new Gauge({
    name: "sluice_connections",
    help: "Open connections",
    registers,
    collect() {
      this.set(gauges.connections());
    },
  });
  new Gauge({
    name: "sluice_request_memory_bytes",
    help: "What calls hold of --max-request-memory",
    registers,
    collect() {
      this.set(gauges.memory().bytes);
    },
  });
  new Gauge({
    name: "sluice_request_memory_limit_bytes",
    help: "What --max-request-memory allows",
    registers,
    collect() {
      this.set(gauges.memory().maxBytes);
    },
  });
  new Counter({
    name: "sluice_request_memory_refusals_total",
    help: "Calls refused or ended because of --max-request-memory",
    registers,
    collect() {
      this.reset();
      this.inc(gauges.memory().refusals);
    },
  });
  return {
    registry,
    observe(record) {
      const method = record.procedure;
      calls.inc({ method, shape: record.shape, protocol: record.protocol, code: record.code });
      duration.observe({ method }, record.durationMs / 1000);
      messages.inc({ method, direction: "in" }, record.messagesIn);
      messages.inc({ method, direction: "out" }, record.messagesOut);
      bytes.inc({ method, direction: "in" }, record.bytesIn);
      bytes.inc({ method, direction: "out" }, record.bytesOut);
    },
    unexpectedError() {
      unexpectedErrors.inc();
    },
    countUnknownPath() {
      unknownPaths.inc();
    },
  };
}
