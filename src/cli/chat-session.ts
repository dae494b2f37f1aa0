import { Code, ConnectError } from "@connectrpc/connect";
import { randomUUID } from "node:crypto";
import { raceSignal } from "../async/signals.ts";
import type { DataExchange, ReadFrom, ReadRecord, SluiceClient } from "../client/index.ts";
import { Backoff } from "../client/retry.ts";
import { CliError } from "./failure.ts";
import type { Retries } from "./retries.ts";

/** Headers of a chat's records. */
export const nameHeader = "chat-name";
const lineHeader = "chat-line";

export interface ChatOptions {
  readonly client: SluiceClient;
  readonly stream: string;
  /** Who speaks. */
  readonly name: string;
  /** How many earlier lines to show. */
  readonly history: number;
  /** Lines to send; their end ends the chat, once they are stored. */
  readonly input: AsyncIterable<string>;
  readonly onRecord: (record: ReadRecord, own: boolean) => Promise<void>;
  readonly retries: Retries;
  readonly signal: AbortSignal;
}

/** Lines on their way, beyond which the input waits. */
const maxUnseen = 64;

/**
 * Sends and receives lines on one bidi call, and opens another when it breaks.
 * A line counts as sent when it comes back in the read: what the old call did
 * store is seen before anything is sent again on the new one.
 */
export async function runChat(options: ChatOptions): Promise<void> {
  await new ChatSession(options).run();
}

class ChatSession {
  readonly #options: ChatOptions;
  readonly #id = randomUUID();
  readonly #backoff: Backoff;
  /** Own lines that have not come back, in their order, by number. */
  readonly #unseen = new Map<string, string>();
  #count = 0;
  #inputEnded = false;
  #inputFailure: { error: unknown } | undefined;
  #from: ReadFrom;
  /** The call, once it has told everything that was there before. */
  #ready: DataExchange | undefined;
  #wakeInput: (() => void) | undefined;
  #everOpened = false;
  /** Everything is said and stored: the call was closed for that. */
  #over = false;

  constructor(options: ChatOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.retries.options, options.retries.onRetry);
    this.#from = { tailOffset: options.history };
  }

  async run(): Promise<void> {
    this.#takeInput().catch((error: unknown) => {
      this.#inputFailure = { error };
      this.#ready?.close();
    });
    for (;;) {
      try {
        await this.#call();
        return;
      } catch (error) {
        if (this.#over) return;
        if (this.#inputFailure !== undefined) throw this.#inputFailure.error;
        // Only a broken call is worth another one.
        if (!this.#everOpened || !(error instanceof ConnectError)) throw error;
        await this.#backoff.wait(error, this.#options.signal);
      }
    }
  }

  /** One call; returns when the chat is over. */
  async #call(): Promise<void> {
    const { client, stream, signal } = this.#options;
    const call = client.data.exchange(stream, { createIfMissing: true, read: { from: this.#from }, signal });
    try {
      for await (const event of call.events) {
        this.#everOpened = true;
        this.#backoff.reset();
        this.#options.retries.succeeded();
        if (event.kind === "record") {
          await this.#show(event.record);
        } else if (event.kind === "sealed") {
          if (this.#inputEnded && this.#unseen.size === 0) return;
          throw new CliError("conflict", `stream "${stream}" is sealed: the chat is over`);
        } else if (event.kind === "caughtUp" && this.#ready === undefined) {
          this.#ready = call;
          for (const [id, line] of this.#unseen) this.#send(call, id, line);
        }
        if (this.#done()) return;
      }
      throw new ConnectError("the server ended the call", Code.Unavailable);
    } finally {
      this.#ready = undefined;
      call.close();
    }
  }

  async #show(record: ReadRecord): Promise<void> {
    this.#from = { seq: record.seq + 1n };
    const line = record.headers[lineHeader] ?? "";
    const own = line.startsWith(`${this.#id}/`);
    if (own && this.#unseen.delete(line)) this.#wakeInput?.();
    await this.#options.onRecord(record, own);
  }

  async #takeInput(): Promise<void> {
    for await (const line of this.#options.input) {
      const id = `${this.#id}/${this.#count++}`;
      this.#unseen.set(id, line);
      if (this.#ready !== undefined) this.#send(this.#ready, id, line);
      while (this.#unseen.size >= maxUnseen) {
        const seen = new Promise<void>((resolve) => (this.#wakeInput = resolve));
        await raceSignal(seen, this.#options.signal);
      }
    }
    this.#inputEnded = true;
    // Wakes the loop over the events, which may have nothing more to tell.
    if (this.#done()) {
      this.#over = true;
      this.#ready?.close();
    }
  }

  #send(call: DataExchange, id: string, line: string): void {
    const headers = { [nameHeader]: this.#options.name, [lineHeader]: id };
    // A failure ends the call, and is told there.
    call.send([{ data: line, headers }]).catch(() => undefined);
  }

  #done(): boolean {
    return this.#inputEnded && this.#unseen.size === 0 && this.#ready !== undefined;
  }
}
