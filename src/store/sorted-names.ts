import { firstIndex } from "./name-order.ts";

/** Names in one array are moved when one comes or goes: this many at most. */
const maxRun = 512;

/** Names in the order of their code units, which for stream names is that of their bytes. */
export class SortedNames {
  /** In order, none of them empty. */
  readonly #runs: string[][] = [];

  /** To be called once for each name. */
  add(name: string): void {
    const index = Math.max(0, firstIndex(this.#runs, ([first = ""]) => first > name) - 1);
    const run = this.#runs[index];
    if (run === undefined) {
      this.#runs.push([name]);
      return;
    }
    run.splice(
      firstIndex(run, (each) => each > name),
      0,
      name,
    );
    if (run.length > maxRun) this.#runs.splice(index + 1, 0, run.splice(maxRun / 2));
  }

  delete(name: string): void {
    const index = firstIndex(this.#runs, ([first = ""]) => first > name) - 1;
    const run = this.#runs[index];
    const at = run === undefined ? -1 : firstIndex(run, (each) => each >= name);
    if (run?.[at] !== name) return;
    run.splice(at, 1);
    if (run.length === 0) this.#runs.splice(index, 1);
  }

  /** Names from `from` on, or behind it, up to but without `to`: at most `limit`. */
  slice(from: string, to: string, { exclusive, limit }: { exclusive: boolean; limit: number }): string[] {
    const found: string[] = [];
    let index = Math.max(0, firstIndex(this.#runs, ([first = ""]) => first > from) - 1);
    for (let run = this.#runs[index]; run !== undefined; run = this.#runs[++index]) {
      for (let at = firstIndex(run, (each) => (exclusive ? each > from : each >= from)); at < run.length; at++) {
        const name = run[at] as string;
        if (name >= to || found.length === limit) return found;
        found.push(name);
      }
    }
    return found;
  }
}
