import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { allows, isScope, streamsOpenTo } from "../../src/auth/scopes.ts";
import { listVisible } from "../../src/services/list-streams.ts";
import { prefixRange, rangesOf, within } from "../../src/services/name-ranges.ts";
import { createMemoryStore } from "../../src/store/memory.ts";
import type { NameRange, Store } from "../../src/store/store.ts";

const principal = (...scopes: string[]) => ({ name: "t", scopes });
const covers = (ranges: readonly NameRange[], name: string): boolean =>
  ranges.some(({ from, to }) => from <= name && name < to);

describe("the ranges of names that scopes open", () => {
  const names = ["0", "a", "a-b", "a.b", "a/", "a/b", "a/b/c", "a0", "ab", "abc", "b", "z", "zz"];
  const all = names;
  it.each<[scopes: string[], prefix: string, seen: string[], ranges: number]>([
    [[], "", [], 0],
    [["greet"], "", [], 0],
    [["data:write:*"], "", [], 0],
    [["admin"], "", all, 1],
    [["admin", "data:read:a"], "a/", ["a/", "a/b", "a/b/c"], 1],
    [["data:read:*"], "", all, 1],
    [["data:read:*"], "a/b", ["a/b", "a/b/c"], 1],
    [["data:read:a"], "", ["a"], 1],
    [["data:read:a"], "a/", [], 0],
    // The prefix is longer than the scope's, shorter, or beside it.
    [["data:read:a/*"], "a/b", ["a/b", "a/b/c"], 1],
    [["data:read:a/b*"], "a", ["a/b", "a/b/c"], 1],
    [["data:read:a/*"], "b", [], 0],
    [["data:read:a*"], "a", ["a", "a-b", "a.b", "a/", "a/b", "a/b/c", "a0", "ab", "abc"], 1],
    // One within another, in either order, the same twice, and several apart.
    [["data:read:a*", "data:read:a/b*", "data:read:ab"], "", names.slice(1, 10), 1],
    [["data:read:a/b*", "data:read:a*"], "", names.slice(1, 10), 1],
    [["data:read:b", "data:read:b"], "", ["b"], 1],
    [["data:read:z*", "data:read:a/*", "data:read:b"], "", ["a/", "a/b", "a/b/c", "b", "z", "zz"], 3],
    [["data:read:a", "data:read:a/b", "data:read:ab"], "", ["a", "a/b", "ab"], 3],
    [["data:read:*"], "é", [], 0],
    [["data:read:a*"], "A", [], 0],
  ])("%j, asked for %j", (scopes, prefix, seen, count) => {
    const ranges = within(rangesOf(streamsOpenTo(principal(...scopes), "read")), prefixRange(prefix));
    expect(names.filter((name) => covers(ranges, name))).toEqual(seen);
    expect(ranges).toHaveLength(count);
  });
});

const nameOf = fc.string({ unit: fc.constantFrom("a", "b", "/", "-"), minLength: 1, maxLength: 4 });
const scopeOf = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.tuple(nameOf, fc.constantFrom("", "*")).map(([name, rest]) => `data:read:${name}${rest}`),
  },
  { weight: 1, arbitrary: nameOf.map((name) => `data:write:${name}*`) },
  { weight: 1, arbitrary: fc.constantFrom("admin", "greet", "data:read:*") },
);

/** All pages, one after the other. */
async function listAll(store: Store, scopes: string[], prefix: string, pageSize: number): Promise<string[]> {
  const found: string[] = [];
  const { signal } = new AbortController();
  for (let pageToken = ""; ;) {
    const page = await listVisible(store, { prefix, pageSize, pageToken }, principal(...scopes), signal);
    if (page.nextPageToken !== "") expect(page.streams).toHaveLength(pageSize);
    found.push(...page.streams.map(({ name }) => name));
    if (page.nextPageToken === "") return found;
    pageToken = page.nextPageToken;
  }
}

describe("ListStreams", () => {
  it("finds, page by page, what a filter of all streams would", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(
          nameOf.filter((name) => /^[a-z]/.test(name)),
          { maxLength: 40 },
        ),
        fc.array(scopeOf, { maxLength: 6 }),
        fc.oneof(fc.constant(""), nameOf),
        fc.integer({ min: 1, max: 7 }),
        async (names, scopes, prefix, pageSize) => {
          expect(scopes.every(isScope)).toBe(true);
          const store = createMemoryStore();
          for (const name of names) await store.create(name);
          const expected = names
            .filter((stream) => stream.startsWith(prefix))
            .filter((stream) => allows(principal(...scopes), { kind: "data", access: "read", stream }))
            .sort();
          expect(await listAll(store, scopes, prefix, pageSize)).toEqual(expected);
        },
      ),
      { numRuns: 500, interruptAfterTimeLimit: 10_000 },
    );
  });
});
