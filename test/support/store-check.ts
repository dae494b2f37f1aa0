import { checkStore } from "../../src/store/check-store.ts";
import type { Finding } from "../../src/store/lmdb-check.ts";

/** What `sluice store check` finds in a data directory. */
export async function findingsOf(dir: string): Promise<Finding[]> {
  const findings: Finding[] = [];
  await checkStore(dir, {
    signal: new AbortController().signal,
    onFinding: (finding) => {
      findings.push(finding);
      return Promise.resolve();
    },
  });
  return findings;
}
