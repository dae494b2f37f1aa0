import { Counter, Gauge } from "prom-client";
import type { Registry } from "prom-client";

/** What the HTTP/3 engine counts. */
export interface Http3Counters {
  readonly streams: number;
  readonly bytesHeld: number;
  readonly connectionsRefused: number;
  readonly retries: number;
  readonly panics: number;
}

/** `read` is called when the metrics are asked for. */
export function addHttp3Metrics(registry: Registry, read: () => Http3Counters): void {
  const registers = [registry];
  const gauge = (name: string, help: string, value: (counters: Http3Counters) => number): void => {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(value(read()));
      },
    });
  };
  const counter = (name: string, help: string, value: (counters: Http3Counters) => number): void => {
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(value(read()));
      },
    });
  };
  gauge("sluice_http3_streams", "Requests over HTTP/3 that are not over", ({ streams }) => streams);
  gauge("sluice_http3_held_bytes", "Bytes of bodies that wait in the HTTP/3 engine", ({ bytesHeld }) => bytesHeld);
  counter("sluice_http3_refused_total", "QUIC connections refused", ({ connectionsRefused }) => connectionsRefused);
  counter("sluice_http3_retries_total", "QUIC clients asked to prove their address", ({ retries }) => retries);
  counter("sluice_http3_panics_total", "Panics in the HTTP/3 engine", ({ panics }) => panics);
}
