import { Counter } from "prom-client";
import type { Registry } from "prom-client";

/** Numbers by reason; the reasons are the server's own words. */
export interface ConnectionCounts {
  readonly refused: Readonly<Record<string, number>>;
  readonly closed: Readonly<Record<string, number>>;
}

/** `counts` is read when the metrics are asked for. */
export function addConnectionMetrics(registry: Registry, counts: ConnectionCounts): void {
  const counter = (name: string, help: string, read: () => Readonly<Record<string, number>>): void => {
    new Counter({
      name,
      help,
      labelNames: ["reason"],
      registers: [registry],
      collect() {
        this.reset();
        for (const [reason, count] of Object.entries(read())) this.inc({ reason }, count);
      },
    });
  };
  counter("sluice_connections_refused_total", "Connections that were not let in", () => counts.refused);
  counter("sluice_connections_closed_total", "Connections that the server has closed", () => counts.closed);
}
