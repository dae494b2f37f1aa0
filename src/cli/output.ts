import cliProgress from "cli-progress";
import { clearLine, cursorTo } from "node:readline";
import { stripVTControlCharacters, styleText } from "node:util";
import { errorText } from "./failure.ts";
import type { Failure } from "./failure.ts";
import { exitCodes } from "./exit-codes.ts";
import { formatSize } from "./format.ts";

type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue };
/** What `--json` prints: one object a line. */
export type JsonObject = { readonly [key: string]: JsonValue };

/** A bar that shows how far a transfer is. It draws nothing without a terminal. */
export interface Progress {
  update(this: void, doneBytes: number, totalBytes?: number): void;
  stop(): void;
}

export interface OutputOptions {
  readonly json: boolean;
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
  /** Ends the wait for a reader that does not keep up. */
  readonly signal: AbortSignal;
}

/**
 * Results on standard output, everything else on standard error: for people, or
 * with `--json` one object a line.
 */
export class Output {
  readonly json: boolean;
  /** Whether somebody looks at standard output. */
  readonly toTerminal: boolean;
  readonly #stdout: NodeJS.WriteStream;
  readonly #stderr: NodeJS.WriteStream;
  readonly #signal: AbortSignal;
  #bar: cliProgress.SingleBar | undefined;

  constructor(options: OutputOptions) {
    this.json = options.json;
    this.toTerminal = options.stdout.isTTY;
    this.#stdout = options.stdout;
    this.#stderr = options.stderr;
    this.#signal = options.signal;
  }

  /** One result: `text` for people, `value` for programs. */
  async result(text: string, value: JsonObject): Promise<void> {
    await this.write(this.json ? `${JSON.stringify(value)}\n` : `${text}\n`);
  }

  /** Text on standard output for people; programs do without it. */
  async text(text: string): Promise<void> {
    if (!this.json) await this.write(`${text}\n`);
  }

  /** Writes to standard output as it is, and waits until the reader has room for more. */
  async write(data: string | Uint8Array): Promise<void> {
    if (this.#stdout.errored || this.#stdout.write(data) || this.#signal.aborted) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        this.#stdout.off("drain", done);
        this.#signal.removeEventListener("abort", done);
        resolve();
      };
      this.#stdout.on("drain", done);
      this.#signal.addEventListener("abort", done);
    });
  }

  /** What is going on, on standard error. */
  note(text: string): void {
    if (this.#bar !== undefined) {
      // The bar draws itself again on the next line.
      cursorTo(this.#stderr, 0);
      clearLine(this.#stderr, 0);
    }
    this.#stderr.write(this.json ? `${JSON.stringify({ note: text })}\n` : `${text}\n`);
  }

  /** Tells that a connection broke, and when the client tries again. Fits the client's `onRetry`. */
  readonly retry = (error: unknown, _attempt: number, delayMs: number): void => {
    this.note(`the connection broke (${errorText(error)}): trying again in ${(delayMs / 1000).toFixed(1)} s`);
  };

  failure(failure: Failure): void {
    const { message, exit, code } = failure;
    if (this.json) {
      this.#stderr.write(`${JSON.stringify({ error: message, ...(code && { code }), exit: exitCodes[exit].code })}\n`);
    } else {
      this.#stderr.write(`${styleText("red", "error:", { stream: this.#stderr })} ${message}\n`);
    }
  }

  /** A bar on standard error; nothing without a terminal, or with `--json`. */
  progress(label: string, totalBytes: number, doneBytes = 0): Progress {
    if (!this.#stderr.isTTY || this.json) return { update: () => undefined, stop: () => undefined };
    const startMs = performance.now();
    const bar = new cliProgress.SingleBar({
      stream: this.#stderr,
      format: `${terminalText(label)} {bar} {percentage}%  {done} of {size}  {rate}/s  {eta_formatted} left`,
      barCompleteChar: "#",
      barIncompleteChar: ".",
      barsize: 24,
      hideCursor: false,
      etaBuffer: 50,
    });
    const show = (done: number, total: number) => ({
      done: formatSize(done),
      size: formatSize(total),
      rate: formatSize((done - doneBytes) / Math.max(0.001, (performance.now() - startMs) / 1000)),
    });
    let total = totalBytes;
    bar.start(total, doneBytes, show(doneBytes, total));
    this.#bar = bar;
    return {
      update: (done, newTotal) => {
        if (newTotal !== undefined && newTotal !== total) {
          total = newTotal;
          bar.setTotal(total);
        }
        bar.update(done, show(done, total));
      },
      stop: () => {
        bar.stop();
        if (this.#bar === bar) this.#bar = undefined;
      },
    };
  }
}

/** Text of somebody else, made safe for a terminal: control characters could move the cursor or worse. */
export function terminalText(text: string): string {
  // eslint-disable-next-line no-control-regex -- control characters are what this is about
  return stripVTControlCharacters(text).replace(/[\x00-\x08\x0a-\x1f\x7f-\x9f]/g, "\ufffd");
}
