import { rmSync } from "node:fs";
import { join } from "node:path";
import { toError } from "../async/to-error.ts";
import { DomainError } from "../errors.ts";
import { isAnswered } from "../process-sockets.ts";
import { socketName } from "./lmdb-claim.ts";
import type { RequestHandler, StoreClaim } from "./lmdb-claim.ts";
import type { Tables } from "./lmdb-env.ts";

/** What the owner of a store holds. */
export interface Ownership {
  /** A key of the meta table that is there once another process has replaced this one. */
  readonly lostKey: string;
  /** Lets another process have the store at once. */
  release(this: void): void;
}

type Owner = { readonly nonce: string; readonly pid: number } | undefined;

function lostKeyOf(nonce: string): string {
  return `lost/${nonce}`;
}

/**
 * Makes this process the only one that uses the store.
 *
 * LMDB lets several processes write, but our commits decide on what they have
 * read before. The owner listens on its socket in the directory. A process that
 * finds no answer replaces the owner in a transaction, so that of two only one
 * succeeds.
 *
 * No answer does not prove that the owner has ended: its socket may have been
 * removed, or be on another host. The new owner therefore writes a key with the
 * nonce of the old one, whose commits succeed only while that key is absent.
 *
 * `onRequest` gets what other processes ask of the owner. The claim is closed by
 * `release`, and by the caller if this rejects.
 */
export async function lockStore(
  dir: string,
  { root, meta }: Tables,
  claim: StoreClaim,
  onRequest?: RequestHandler,
): Promise<Ownership> {
  const { nonce } = claim;
  const ownerNow = (): Owner => meta.get("owner") as Owner;
  for (;;) {
    const owner = ownerNow();
    if (owner !== undefined) await requireGone(dir, owner);
    const won = root.transactionSync(() => {
      if (ownerNow()?.nonce !== owner?.nonce) return false;
      meta.putSync("owner", { nonce, pid: process.pid });
      if (owner !== undefined) meta.putSync(lostKeyOf(owner.nonce), true);
      return true;
    });
    if (!won) continue;
    if (owner !== undefined) rmSync(join(dir, socketName(owner.nonce)), { force: true });
    claim.own(onRequest);
    return {
      lostKey: lostKeyOf(nonce),
      release() {
        try {
          root.transactionSync(() => {
            if (ownerNow()?.nonce === nonce) meta.removeSync("owner");
          });
        } catch {
          // A store that cannot be written is left as after a crash.
        }
        claim.close();
      },
    };
  }
}

/** Fails with "store-locked" if the owner answers, or if it cannot be told whether it does. */
async function requireGone(dir: string, { nonce, pid }: NonNullable<Owner>): Promise<void> {
  const answered = await isAnswered(dir, socketName(nonce)).catch((cause: unknown) => {
    const detail = `whether process ${pid} still has it cannot be told: ${toError(cause).message}`;
    throw new DomainError({ kind: "store-locked", dir, detail }, { cause });
  });
  if (answered) throw new DomainError({ kind: "store-locked", dir, detail: `process ${pid} has it` });
}
