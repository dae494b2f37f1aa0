import { random } from "../../support/cutting-proxy.ts";

/** Draws what a case needs. The same seed and number give the same case, on every machine. */
export class Chance {
  readonly #next: () => number;

  constructor(seed: number, number: number) {
    this.#next = random((Math.imul(seed, 0x9e3779b1) ^ Math.imul(number + 1, 0x85ebca6b)) | 0);
  }

  /** A whole number from 0 to below `end`. */
  below(end: number): number {
    return Math.floor(this.#next() * end);
  }

  /** True in one of `n` cases, on average. */
  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }

  of<T>(items: readonly [T, ...T[]]): T {
    return items[this.below(items.length)] ?? items[0];
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.below(256)));
  }

  /** How many of something: mostly few, now and then many. */
  few(): number {
    return this.oneIn(8) ? 1 + this.below(40) : 1 + this.below(4);
  }

  /** Cuts bytes into segments, in one of several manners; in one of them all is in the first. */
  segments(bytes: Buffer): Buffer[] {
    const most = this.of([Infinity, Infinity, 4096, 100, 10, 1]);
    if (most === Infinity) return [bytes];
    const parts: Buffer[] = [];
    // What is cut into single bytes is only the beginning, so that a case does not take long.
    for (let at = 0; at < bytes.byteLength;) {
      const length = parts.length > 200 ? bytes.byteLength : 1 + this.below(most);
      parts.push(bytes.subarray(at, at + length));
      at += length;
    }
    return parts;
  }
}
