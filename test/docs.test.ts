import { readFileSync } from "node:fs";
import { join } from "node:path";
import { format } from "prettier";
import { expect, it } from "vitest";
import { configurationDocs } from "../scripts/configuration-docs.ts";

it("docs/configuration.md says what config.ts does (`npm run docs` writes it)", async () => {
  const written = readFileSync(join(import.meta.dirname, "../docs/configuration.md"), "utf8");
  expect(written).toBe(await format(configurationDocs(), { parser: "markdown", printWidth: 120 }));
});
