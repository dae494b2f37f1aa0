import { clip, quote } from "./clip.ts";

/**
 * What can go wrong in the domain, as a closed union: each kind carries what a
 * caller needs to act on it. `services/error-codes.ts` is the one place that
 * turns a kind into an RPC code and an error detail.
 */
export type Problem =
  | { readonly kind: "stream-not-found"; readonly stream: string }
  | { readonly kind: "stream-exists"; readonly stream: string }
  /** Another stream has the name now. */
  | { readonly kind: "stream-replaced"; readonly stream: string; readonly expectedUid: string; readonly uid: string }
  | { readonly kind: "stream-sealed"; readonly stream: string; readonly head: number; readonly tail: number }
  | {
      readonly kind: "seq-mismatch";
      readonly stream: string;
      readonly expected: number;
      readonly head: number;
      readonly tail: number;
    }
  | {
      readonly kind: "position-out-of-range";
      readonly stream: string;
      readonly seq: number;
      readonly head: number;
      readonly tail: number;
    }
  | {
      readonly kind: "producer-fenced";
      readonly stream: string;
      readonly producer: string;
      readonly epoch: number;
      readonly currentEpoch: number;
    }
  | {
      readonly kind: "producer-gap" | "producer-repeat-too-old" | "producer-conflict";
      readonly stream: string;
      readonly producer: string;
      readonly producerSeq: number;
      readonly nextProducerSeq: number;
    }
  | {
      readonly kind: "checksum-mismatch";
      readonly stream: string;
      readonly firstSeq: number;
      readonly expected: Uint8Array;
      readonly actual: Uint8Array;
    }
  | {
      readonly kind: "batch-too-large";
      readonly stream: string;
      readonly unit: "bytes" | "records";
      readonly actual: number;
      readonly limit: number;
    }
  /** The records from `seq` up to `nextSeq` cannot be read: what the disk gives is not what was stored. */
  | {
      readonly kind: "records-damaged";
      readonly stream: string;
      readonly seq: number;
      readonly nextSeq: number;
      readonly head: number;
      readonly tail: number;
    }
  | { readonly kind: "store-full"; readonly detail: string }
  | { readonly kind: "store-unavailable"; readonly detail: string }
  | {
      readonly kind: "store-locked" | "store-corrupt" | "store-unreadable";
      readonly dir: string;
      readonly detail: string;
    }
  | { readonly kind: "store-exists"; readonly dir: string }
  | { readonly kind: "archive-damaged"; readonly detail: string }
  | { readonly kind: "unauthenticated"; readonly detail: "no token provided" | "invalid token" | "token expired" }
  /** Whether a token is valid cannot be told. The cause says why, for the log: it is nothing for the caller. */
  | { readonly kind: "keys-unavailable" }
  | { readonly kind: "permission-denied"; readonly needs: string }
  | { readonly kind: "invalid-argument"; readonly detail: string }
  | { readonly kind: "config"; readonly detail: string };

export type ProblemKind = Problem["kind"];

/** An expected failure. Anything else that is thrown is a bug, or the machine's fault. */
export class DomainError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem, options?: { cause?: unknown }) {
    super(describe(problem), options);
    this.name = "DomainError";
    this.problem = problem;
  }
}

/** Whether `error` is a DomainError, of the given kind if there is one. */
export function isDomainError<K extends ProblemKind>(
  error: unknown,
  kind?: K,
): error is DomainError & { readonly problem: Extract<Problem, { kind: K }> } {
  return error instanceof DomainError && (kind === undefined || error.problem.kind === kind);
}

/** Whether a port could not be listened on because somebody else does. */
export function isPortInUse(error: unknown): boolean {
  return (
    isDomainError(error, "config") && (error.cause as { readonly code?: unknown } | undefined)?.code === "EADDRINUSE"
  );
}

/** The sentence that a user reads: what was wrong, and what would be right. */
function describe(p: Problem): string {
  switch (p.kind) {
    case "stream-not-found":
      return `stream ${quote(p.stream)} does not exist: list those that do with ListStreams or \`sluice streams list\`, or make it with CreateStream, \`sluice streams create ${clip(p.stream)}\`, or an append with create_if_missing`;
    case "stream-replaced":
      return `stream ${quote(p.stream)} has uid ${clip(p.uid)}, not ${clip(p.expectedUid)}: it was deleted and made again, or restored from a backup, so seqs of the stream before do not apply to it; start over without the uid`;
    case "stream-exists":
      return `stream ${quote(p.stream)} exists already`;
    case "stream-sealed":
      return `stream ${quote(p.stream)} is sealed at seq ${p.tail}: nothing can be appended any more`;
    case "seq-mismatch":
      return `stream ${quote(p.stream)}: expected the tail to be ${p.expected}, but it is ${p.tail}`;
    case "position-out-of-range":
      return p.seq < p.head
        ? `stream ${quote(p.stream)}: seq ${p.seq} has been removed, the oldest seq kept is ${p.head}`
        : `stream ${quote(p.stream)}: seq ${p.seq} is beyond the tail, which is ${p.tail}; if it was read before, this server has an older copy of the data`;
    case "producer-fenced":
      return `stream ${quote(p.stream)}: producer ${quote(p.producer)} has epoch ${p.currentEpoch} now: epoch ${p.epoch} is fenced`;
    case "producer-gap":
      return `stream ${quote(p.stream)}: producer ${quote(p.producer)} sent producer_seq ${p.producerSeq}, but the next one must be ${p.nextProducerSeq}`;
    case "producer-repeat-too-old":
      return `stream ${quote(p.stream)}: producer ${quote(p.producer)} sent producer_seq ${p.producerSeq} again, whose position has been forgotten; the next one must be ${p.nextProducerSeq}`;
    case "producer-conflict":
      return `stream ${quote(p.stream)}: producer ${quote(p.producer)} has stored another batch as producer_seq ${p.producerSeq}: claim the producer with ClaimProducer when a program starts again, and give each program an id of its own`;
    case "checksum-mismatch":
      return `stream ${quote(p.stream)}: the data from seq ${p.firstSeq} on has SHA-256 ${hex(p.actual)}, not ${hex(p.expected)}; it was not sealed`;
    case "batch-too-large":
      return `stream ${quote(p.stream)}: the batch has ${p.actual} ${p.unit}, the limit is ${p.limit} (--max-batch-${p.unit} of the server): send smaller batches`;
    case "records-damaged":
      return `stream ${quote(p.stream)}: the records from seq ${p.seq} to ${p.nextSeq - 1} are damaged on the disk of the server, which gives other bytes than were stored: ${p.nextSeq < p.tail ? `read on from seq ${p.nextSeq}, or ` : ""}restore the store from a backup`;
    case "store-full":
      return `the store has no room left (${p.detail})`;
    case "store-unavailable":
      return `the store does not answer (${p.detail})`;
    case "store-locked":
      return `the data directory ${p.dir} is in use (${p.detail}): stop that server, or choose another --data-dir`;
    case "store-corrupt":
      return `the data directory ${p.dir} holds no readable store (${p.detail}): nothing was changed; restore it from a backup, or choose another --data-dir`;
    case "store-unreadable":
      return `the data directory ${p.dir} cannot be used (${p.detail}): check that it is a directory that this user can read and write`;
    case "store-exists":
      return `the data directory ${p.dir} has a store already: choose another --data-dir, or move that one away`;
    case "archive-damaged":
      return `the backup is not whole (${p.detail}): use another one`;
    case "unauthenticated":
      return p.detail;
    case "keys-unavailable":
      return "the keys to check tokens with cannot be read now: try again later";
    case "permission-denied":
      return `the token does not allow this: it needs the scope ${clip(p.needs)}`;
    case "invalid-argument":
    case "config":
      return p.detail;
    default:
      return p satisfies never;
  }
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}
