import { isUtf8 } from "node:buffer";
import type { ReadRecord } from "../client/index.ts";
import type { JsonObject } from "./output.ts";

/** A record as `--json` shows it: `text` if the data is UTF-8, else `base64`. */
export function recordJson({ seq, uid, time, headers, data }: ReadRecord): JsonObject {
  return {
    seq: Number(seq),
    uid,
    time: time.toISOString(),
    headers,
    ...(isUtf8(data) ? { text: toText(data) } : { base64: Buffer.from(data).toString("base64") }),
  };
}

/** Data as text; bytes that are no UTF-8 are replaced. */
export function toText(data: Uint8Array): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(data);
}
