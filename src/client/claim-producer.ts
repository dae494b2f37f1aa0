import { Code, ConnectError } from "@connectrpc/connect";
import type { Client } from "@connectrpc/connect";
import type { DataService } from "../../gen/data/v1/data_pb.ts";

export interface ClaimProducerOptions {
  readonly createIfMissing?: boolean;
  /** Only in the stream with this uid. */
  readonly expectedUid?: string;
  readonly signal?: AbortSignal;
}

/** Claims a producer of a stream. Whoever appended under the id before is fenced. */
export async function claimProducer(
  rpc: Client<typeof DataService>,
  stream: string,
  producerId: string,
  { createIfMissing = false, expectedUid = "", signal }: ClaimProducerOptions = {},
): Promise<{ readonly epoch: bigint; readonly streamUid: string }> {
  try {
    const request = { stream, producerId, createIfMissing, expectedUid };
    return await rpc.claimProducer(request, signal === undefined ? {} : { signal });
  } catch (error) {
    const failure = ConnectError.from(error);
    if (failure.code !== Code.Unimplemented) throw error;
    throw new ConnectError(
      "the server is older than this client, and hands out no epochs: update it, or give `epoch` and number the batches from 0 in each",
      Code.Unimplemented,
      failure.metadata,
      undefined,
      error,
    );
  }
}
