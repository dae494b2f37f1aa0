/**
 * A plugin for Stryker that leaves sentences as they are: a text with two words and a blank between them is for people,
 * and an empty one in its place is no fault of the program's logic. Short texts, such as kinds, scopes and prefixes, are
 * mutated.
 */

/** What is needed of Babel's path to a node. */
interface Path {
  readonly node: {
    readonly type: string;
    readonly value?: unknown;
    readonly quasis?: readonly { readonly value: { readonly raw: string } }[];
  };
}

const sentence = /[A-Za-z]{2,}[,:;.]? [A-Za-z]{2,}/;

export const strykerPlugins = [{ kind: "Ignore", name: "sentences", value: { shouldIgnore } }];

/** The reason to ignore the node, for the report, or undefined. */
function shouldIgnore({ node }: Path): string | undefined {
  const texts =
    node.type === "StringLiteral"
      ? [String(node.value)]
      : node.type === "TemplateLiteral"
        ? (node.quasis ?? []).map(({ value }) => value.raw)
        : [];
  return texts.some((text) => sentence.test(text)) ? "a sentence for people" : undefined;
}
