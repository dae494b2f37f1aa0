import type { Config } from "../config.ts";

/** What DataService bounds; see `config.ts` for each. */
export type DataLimits = Pick<
  Config,
  "maxBatchRecords" | "maxBatchBytes" | "maxPendingBytes" | "readChunkBytes" | "heartbeatInterval"
>;
