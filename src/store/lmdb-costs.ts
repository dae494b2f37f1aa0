/**
 * What is counted for `--max-store-bytes`: what each thing takes in LMDB's
 * pages, about, with its key, in bytes. So nothing that a client can make
 * without limit counts as nothing.
 */
import { overflowPagesOf } from "./lmdb-page-bound.ts";
import type { StreamInfo } from "./store.ts";

/** Of a page, in bytes. */
const pageSize = 4096;
/** A value beyond this has pages of its own (mdb.c, `me_nodemax`: two nodes must fit into a page). */
const ownPagesFrom = 2000;
/** A node of a leaf with a key of two numbers, and its share of what leaves keep empty. */
const nodeBytes = 64;
/** A row of the table of streams, without names and metadata. */
const streamBytes = 384;
/** A row of the table of producers, without the id. */
const producerBytes = 160;
/** A row of the table of positions, without the producer's id. */
const positionBytes = 96;

/** What a batch counts, whose stored form has so many bytes. */
export function batchCost(byteLength: number): number {
  return nodeBytes + (byteLength > ownPagesFrom ? overflowPagesOf(byteLength) * pageSize : byteLength);
}

/** What a stream counts without its records. */
export function streamCost({ name, metadata = {} }: Pick<StreamInfo, "name" | "metadata">): number {
  let bytes = streamBytes + 2 * Buffer.byteLength(name);
  for (const [key, value] of Object.entries(metadata)) bytes += key.length + Buffer.byteLength(value);
  return bytes;
}

export function producerCost(producerId: string): number {
  return producerBytes + Buffer.byteLength(producerId);
}

/** What a batch counts of whose producer the position is remembered. */
export function positionCost(producerId: string): number {
  return positionBytes + Buffer.byteLength(producerId);
}
