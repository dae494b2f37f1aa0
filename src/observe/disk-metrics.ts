import { Counter, Gauge } from "prom-client";
import type { Registry } from "prom-client";

interface DiskState {
  readonly headroomBytes: number;
  readonly isFull: boolean;
  readonly refusals: number;
}

/** `read` is called when the metrics are asked for; undefined: the store is closed. */
export function addDiskMetrics(registry: Registry, read: () => DiskState | undefined): void {
  const registers = [registry];
  new Gauge({
    name: "sluice_store_headroom_bytes",
    help: "Bytes that the store has allocated ahead on its disk",
    registers,
    collect() {
      this.set(read()?.headroomBytes ?? 0);
    },
  });
  new Gauge({
    name: "sluice_store_disk_full",
    help: "1 while appends are refused because the disk of the store is full, otherwise 0",
    registers,
    collect() {
      this.set(read()?.isFull === true ? 1 : 0);
    },
  });
  new Counter({
    name: "sluice_store_disk_full_refusals_total",
    help: "Commits refused because the disk of the store is full",
    registers,
    collect() {
      this.reset();
      this.inc(read()?.refusals ?? 0);
    },
  });
}
