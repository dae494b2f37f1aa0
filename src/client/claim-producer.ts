import { Code, ConnectError } from "@connectrpc/connect";
import type { Client } from "@connectrpc/connect";
import type { DataService } from "../../gen/data/v1/data_pb.ts";

export interface ClaimProducerOptions {
  readonly createIfMissing?: boolean;
  readonly signal?: AbortSignal;
}

/** Claims a producer of a stream, and resolves with its epoch. Whoever appended under the id before is fenced. */
export async function claimProducer(
  rpc: Client<typeof DataService>,
  stream: string,
  producerId: string,
  { createIfMissing = false, signal }: ClaimProducerOptions = {},
): Promise<bigint> {
  try {
    const request = { stream, producerId, createIfMissing };
    const { epoch } = await rpc.claimProducer(request, signal === undefined ? {} : { signal });
    return epoch;
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
