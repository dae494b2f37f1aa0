import { Code, ConnectError } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import type { MemoryAccount } from "./memory-account.ts";

/** How many times its length a message is at first taken to have once it is inflated, and how many bytes at least. */
const usualRatio = 16;
const leastBytes = 32 * 1024;

/**
 * Inflates a message. Its length is not known before, and each of many at once
 * could grow up to the limit, so what it may take is counted while it is
 * inflated: first what is usual and then, for a longer one, the limit.
 *
 * Rejects with RESOURCE_EXHAUSTED for a message longer than `maxBytes`, and with
 * the account's error if the memory is not available.
 */
export async function inflate(
  compression: Compression,
  payload: Uint8Array,
  maxBytes: number,
  memory: MemoryAccount | undefined,
): Promise<Uint8Array> {
  if (memory === undefined) return compression.decompress(payload, maxBytes);
  const usual = Math.min(maxBytes, Math.max(leastBytes, payload.byteLength * usualRatio));
  for (let limit = usual; ; limit = maxBytes) {
    if (!memory.charge(limit)) throw memory.exhausted();
    try {
      return await compression.decompress(payload, limit);
    } catch (error) {
      const longer = error instanceof ConnectError && error.code === Code.ResourceExhausted;
      if (!longer || limit === maxBytes) throw error;
    } finally {
      memory.release(limit);
    }
  }
}
