import { randomUUID } from "node:crypto";
import { link, open, rename, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { CliError, fileError, systemCode } from "./failure.ts";
import { writeAll } from "./write-all.ts";

/**
 * A file that gets its name once all of it is on the disk. Until then it is beside its place, for its user alone; what a
 * kill leaves is named like `.NAME.1b9d6bcd.part`.
 */
export class NewFile {
  readonly #path: string;
  readonly #draft: string;
  readonly #file: FileHandle;
  readonly #replace: boolean;
  #end = 0;

  private constructor(path: string, draft: string, file: FileHandle, replace: boolean) {
    this.#path = path;
    this.#draft = draft;
    this.#file = file;
    this.#replace = replace;
  }

  /** `replace`: takes the place of a file that is there. Otherwise `finish` fails then. */
  static async open(path: string, { replace }: { readonly replace: boolean }): Promise<NewFile> {
    const draft = join(dirname(path), `.${basename(path).slice(0, 200)}.${randomUUID().slice(0, 8)}.part`);
    try {
      return new NewFile(path, draft, await open(draft, "wx", 0o600), replace);
    } catch (error) {
      throw fileError(path, "written", error);
    }
  }

  async write(bytes: Uint8Array): Promise<void> {
    try {
      await writeAll(this.#file, bytes, this.#end);
      this.#end += bytes.byteLength;
    } catch (error) {
      throw fileError(this.#path, "written", error);
    }
  }

  async finish(): Promise<void> {
    try {
      await this.#file.sync();
      await this.#file.close();
      if (this.#replace) await rename(this.#draft, this.#path);
      else await this.#link();
      const directory = await open(dirname(this.#path), "r");
      await directory.sync().finally(() => directory.close());
    } catch (error) {
      if (error instanceof CliError) throw error;
      throw fileError(this.#path, "written", error);
    }
  }

  /** Removes what has not got its name. */
  async discard(): Promise<void> {
    await this.#file.close();
    await rm(this.#draft, { force: true });
  }

  async #link(): Promise<void> {
    try {
      await link(this.#draft, this.#path);
    } catch (error) {
      if (systemCode(error) === "EEXIST") throw existsAlready(this.#path);
      throw error;
    }
  }
}

/** What a user is told whose file would be overwritten. */
export function existsAlready(path: string): CliError {
  return new CliError("conflict", `${path} exists already: give another name, or --force to replace it`);
}
