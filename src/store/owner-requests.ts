import { once } from "node:events";
import type { Socket } from "node:net";
import { toError } from "../async/to-error.ts";
import { DomainError } from "../errors.ts";
import { decodeArchive, encodeEntry } from "./archive.ts";
import type { ArchiveEntry } from "./archive.ts";
import { archiveOf } from "./archive-source.ts";
import { Check } from "./lmdb-check.ts";
import type { CheckOptions, CheckResult, Finding } from "./lmdb-check.ts";
import type { Tables } from "./lmdb-env.ts";
import { Snapshot } from "./lmdb-snapshot.ts";

/**
 * What a process asks of the owner of a store, on its socket: a backup, or a check. Only the owner may open LMDB's file
 * (see `StoreClaim`), and it has it open already.
 *
 *     a line of JSON: Request
 *     the answer: a backup's bytes, or lines of JSON: CheckLine
 */
type Request = { readonly do: "backup"; readonly version: string } | { readonly do: "check" };

type CheckLine =
  | { readonly finding: Finding }
  | { readonly progress: readonly [doneBytes: number, totalBytes: number] }
  | { readonly result: CheckResult };

/** Answers what other processes ask, until it is closed. */
export class OwnerRequests {
  readonly #tables: Tables;
  readonly #onWarning: (message: string) => void;
  readonly #closing = new AbortController();
  readonly #running = new Set<Promise<void>>();

  constructor(tables: Tables, onWarning: (message: string) => void) {
    this.#tables = tables;
    this.#onWarning = onWarning;
  }

  readonly handle = (line: string, socket: Socket): void => {
    const running = this.#answer(line, socket)
      .catch((error: unknown) => {
        if (!socket.destroyed) this.#onWarning(`a backup or a check failed: ${toError(error).message}`);
        socket.destroy();
      })
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  };

  /** Ends what is being answered. */
  async close(): Promise<void> {
    this.#closing.abort(new DomainError({ kind: "store-unavailable", detail: "it is closed" }));
    await Promise.all(this.#running);
  }

  async #answer(line: string, socket: Socket): Promise<void> {
    const gone = new AbortController();
    socket.once("close", () => {
      gone.abort(new Error("the process that asked has gone"));
    });
    // Nothing more is asked, and the end of the socket is to be seen.
    socket.resume();
    const signal = AbortSignal.any([gone.signal, this.#closing.signal]);
    const request = JSON.parse(line) as Request | { readonly do?: undefined };
    const snapshot = new Snapshot(this.#tables);
    try {
      if (request.do === "backup") {
        for await (const entry of archiveOf(snapshot, request.version, signal)) {
          await write(socket, encodeEntry(entry), signal);
        }
      } else if (request.do === "check") {
        const send = (answer: CheckLine): Promise<void> => write(socket, `${JSON.stringify(answer)}\n`, signal);
        let toldMs = 0;
        const result = await new Check(snapshot, {
          signal,
          onFinding: (finding) => send({ finding }),
          onProgress: (done, total) => {
            if (performance.now() - toldMs < progressMs) return;
            toldMs = performance.now();
            // Whatever keeps it from being sent ends the check too.
            send({ progress: [done, total] }).catch(() => undefined);
          },
        }).run();
        await send({ result });
      } else throw new Error(`there is no such request: ${line}`);
      socket.end();
    } finally {
      await snapshot.close();
    }
  }
}

/** Between two lines of progress, in milliseconds. */
const progressMs = 100;

/** How long a reader may take nothing, in milliseconds: as long as it reads, LMDB keeps the pages of its snapshot. */
const stallMs = 5 * 60_000;

/** Writes, and waits until the reader has room for more. */
async function write(socket: Socket, data: string | Buffer, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  if (socket.write(data)) return;
  const stalled = AbortSignal.timeout(stallMs);
  await once(socket, "drain", { signal: AbortSignal.any([signal, stalled]) }).catch((error: unknown) => {
    signal.throwIfAborted();
    throw stalled.aborted ? new Error("its reader took nothing for five minutes") : error;
  });
}

const endedEarly = "the server that has it ended before all was read, or could not read it: its log says why";

/** The entries of a backup that the owner makes. */
export async function* askForBackup(
  socket: Socket,
  dir: string,
  version: string,
  signal: AbortSignal,
): AsyncGenerator<ArchiveEntry> {
  ask(socket, { do: "backup", version });
  const stop = endWith(socket, signal);
  try {
    yield* decodeArchive(socket);
  } catch (error) {
    signal.throwIfAborted();
    throw new DomainError({ kind: "store-unreadable", dir, detail: endedEarly }, { cause: error });
  } finally {
    stop();
    socket.destroy();
  }
}

/** Has the owner check its store. */
export async function askForCheck(socket: Socket, dir: string, options: CheckOptions): Promise<CheckResult> {
  const { signal, onFinding, onProgress } = options;
  ask(socket, { do: "check" });
  const stop = endWith(socket, signal);
  try {
    let rest = "";
    for await (const chunk of socket.setEncoding("utf8") as AsyncIterable<string>) {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const answer = JSON.parse(line) as CheckLine;
        if ("result" in answer) return answer.result;
        if ("finding" in answer) await onFinding(answer.finding);
        else onProgress?.(...answer.progress);
      }
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    stop();
    socket.destroy();
  }
  signal.throwIfAborted();
  throw new DomainError({ kind: "store-unreadable", dir, detail: endedEarly });
}

function ask(socket: Socket, request: Request): void {
  socket.write(`${JSON.stringify(request)}\n`);
}

/** Ends the socket when the signal is aborted. */
function endWith(socket: Socket, signal: AbortSignal): () => void {
  const end = (): void => {
    socket.destroy();
  };
  signal.addEventListener("abort", end);
  if (signal.aborted) end();
  return () => {
    signal.removeEventListener("abort", end);
  };
}
