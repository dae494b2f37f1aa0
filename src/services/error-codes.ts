import { create } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Interceptor } from "@connectrpc/connect";
import { DataErrorSchema, DataError_Reason as Reason } from "../../gen/data/v1/data_pb.ts";
import { DomainError } from "../errors.ts";
import type { Problem, ProblemKind } from "../errors.ts";

/** The code of each kind of domain error, and the reason in its detail if it is one of DataService. */
const table: Record<ProblemKind, readonly [code: Code, reason?: Reason]> = {
  "stream-not-found": [Code.NotFound, Reason.STREAM_NOT_FOUND],
  "stream-exists": [Code.AlreadyExists, Reason.STREAM_EXISTS],
  "stream-replaced": [Code.FailedPrecondition, Reason.STREAM_REPLACED],
  "stream-sealed": [Code.FailedPrecondition, Reason.STREAM_SEALED],
  "seq-mismatch": [Code.FailedPrecondition, Reason.SEQ_MISMATCH],
  "position-out-of-range": [Code.OutOfRange, Reason.POSITION_OUT_OF_RANGE],
  "producer-fenced": [Code.FailedPrecondition, Reason.PRODUCER_FENCED],
  "producer-gap": [Code.FailedPrecondition, Reason.PRODUCER_GAP],
  "producer-repeat-too-old": [Code.FailedPrecondition, Reason.PRODUCER_REPEAT_TOO_OLD],
  "producer-conflict": [Code.FailedPrecondition, Reason.PRODUCER_CONFLICT],
  "checksum-mismatch": [Code.FailedPrecondition, Reason.CHECKSUM_MISMATCH],
  "batch-too-large": [Code.InvalidArgument, Reason.BATCH_TOO_LARGE],
  "records-damaged": [Code.DataLoss, Reason.RECORDS_DAMAGED],
  "store-full": [Code.ResourceExhausted, Reason.STORE_FULL],
  "store-unavailable": [Code.Unavailable],
  "store-locked": [Code.Internal],
  "store-corrupt": [Code.Internal],
  "store-unreadable": [Code.Internal],
  "store-exists": [Code.Internal],
  "archive-damaged": [Code.Internal],
  "keys-unavailable": [Code.Unavailable],
  unauthenticated: [Code.Unauthenticated],
  "permission-denied": [Code.PermissionDenied],
  "invalid-argument": [Code.InvalidArgument],
  config: [Code.Internal],
};

function detailOf(problem: Problem, reason: Reason): MessageInitShape<typeof DataErrorSchema> {
  const detail: MessageInitShape<typeof DataErrorSchema> = { reason };
  if ("stream" in problem) detail.stream = problem.stream;
  if ("uid" in problem) detail.streamUid = problem.uid;
  if (problem.kind === "records-damaged") detail.nextSeq = BigInt(problem.nextSeq);
  if ("head" in problem) detail.head = BigInt(problem.head);
  if ("tail" in problem) detail.tail = BigInt(problem.tail);
  if ("currentEpoch" in problem) detail.producerEpoch = BigInt(problem.currentEpoch);
  if ("nextProducerSeq" in problem) detail.nextProducerSeq = BigInt(problem.nextProducerSeq);
  if ("actual" in problem && problem.actual instanceof Uint8Array) detail.sha256 = problem.actual;
  return detail;
}

/**
 * What goes on the wire for a failure. A failure that nobody expected is
 * "internal error" there, and whole in what `onUnexpected` gets.
 */
export function toConnectError(error: unknown, onUnexpected: (error: unknown) => void): ConnectError {
  if (error instanceof ConnectError) return error;
  if (error instanceof DomainError) {
    const [code, reason] = table[error.problem.kind];
    if (code === Code.Internal || code === Code.Unavailable || code === Code.DataLoss) onUnexpected(error);
    if (code === Code.Internal) return new ConnectError("internal error", code, undefined, undefined, error);
    const details =
      reason === undefined
        ? []
        : [{ desc: DataErrorSchema, value: create(DataErrorSchema, detailOf(error.problem, reason)) }];
    return new ConnectError(error.message, code, undefined, details, error);
  }
  if (error instanceof Error && error.name === "AbortError") {
    return new ConnectError("the call was canceled", Code.Canceled, undefined, undefined, error);
  }
  onUnexpected(error);
  return new ConnectError("internal error", Code.Internal, undefined, undefined, error);
}

/** The outermost interceptor: the one boundary where errors become RPC errors. */
export function createErrorInterceptor(options: { onUnexpected: (error: unknown) => void }): Interceptor {
  const translate = (error: unknown): ConnectError => toConnectError(error, options.onUnexpected);
  return (next) => async (req) => {
    try {
      const response = await next(req);
      return response.stream ? { ...response, message: new TranslatedMessages(response.message, translate) } : response;
    } catch (error) {
      throw translate(error);
    }
  };
}

/** The messages of a response, whose failure is translated. */
class TranslatedMessages<T> implements AsyncIterableIterator<T> {
  readonly #messages: AsyncIterator<T>;
  readonly #translate: (error: unknown) => ConnectError;

  constructor(messages: AsyncIterable<T>, translate: (error: unknown) => ConnectError) {
    this.#messages = messages[Symbol.asyncIterator]();
    this.#translate = translate;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<T>> {
    return this.#messages.next().catch(this.#rethrow);
  }

  return(value?: unknown): Promise<IteratorResult<T>> {
    return this.#messages.return?.(value) ?? Promise.resolve({ done: true, value: undefined });
  }

  throw(error?: unknown): Promise<IteratorResult<T>> {
    return this.#messages.throw?.(error).catch(this.#rethrow) ?? Promise.reject(this.#translate(error));
  }

  readonly #rethrow = (error: unknown): never => {
    throw this.#translate(error);
  };
}
