import { DomainError } from "../errors.ts";
import { recordsSize } from "./store.ts";
import type { StoredRecord, StreamInfo } from "./store.ts";

/**
 * What things take in V8's heap and in buffers, about, in bytes: somewhat more
 * than what a heap of many has for each, with Node 24.
 */
const batchBytes = 384;
const recordBytes = 192;
/** A header, whose name no other record may have. */
const headerBytes = 192;
const streamBytes = 768;
const producerBytes = 384;
const positionBytes = 192;

export function batchCost(records: readonly StoredRecord[]): number {
  let headers = 0;
  for (const record of records) for (const _ in record.headers) headers++;
  return batchBytes + records.length * recordBytes + headers * headerBytes + recordsSize(records);
}

/** What a stream takes without its records. */
export function streamCost({ name, metadata = {} }: Pick<StreamInfo, "name" | "metadata">): number {
  let bytes = streamBytes + 2 * name.length;
  for (const [key, value] of Object.entries(metadata)) bytes += 2 * (key.length + value.length);
  return bytes;
}

/** What a producer takes, with the positions of so many batches. */
export function producerCost(producerId: string, positions: number): number {
  return producerBytes + 2 * producerId.length + positions * positionBytes;
}

/** Whoever takes room, and what they have. */
export interface Tenant {
  room: number;
}

/** The memory that a store may take. */
export class Room {
  readonly #maxBytes: number;
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Throws "store-full" if so many bytes more are too many. */
  require(bytes: number): void {
    if (this.#bytes + bytes <= this.#maxBytes) return;
    const detail = `the memory for it, ${this.#maxBytes} bytes, is full: delete or trim streams`;
    throw new DomainError({ kind: "store-full", detail });
  }

  take(tenant: Tenant, bytes: number): void {
    tenant.room += bytes;
    this.#bytes += bytes;
  }

  give(tenant: Tenant, bytes: number): void {
    this.take(tenant, -bytes);
  }
}
