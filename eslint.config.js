import js from "@eslint/js";
import { defineConfig, globalIgnores } from "eslint/config";
import tseslint from "typescript-eslint";

export default defineConfig(
  globalIgnores([
    "**/gen/",
    "test/package/consumer/",
    "dist/",
    "coverage/",
    "data/",
    "bench/results/",
    ".stryker-tmp/",
    "reports/",
  ]),
  js.configs.recommended,
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
      // A number in a template is what it looks like.
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true, allow: ["bigint"] }],
      // `_` names what must be there and is not used, as the variable of a loop that only counts.
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
      // An error that is passed on is of type unknown; it was thrown, so it is rethrown as it is.
      "@typescript-eslint/only-throw-error": ["error", { allowThrowingUnknown: true, allowThrowingAny: false }],
      "@typescript-eslint/prefer-promise-reject-errors": ["error", { allowThrowingUnknown: true }],
      // `this: void` says that a function may be passed around alone.
      "@typescript-eslint/no-invalid-void-type": ["error", { allowAsThisParameter: true }],
      // `() => resolve()` is the usual way to drop a result.
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      // An implementation of an async interface may have nothing to wait for.
      "@typescript-eslint/require-await": "off",
      // Endless loops are how streams are read.
      "@typescript-eslint/no-unnecessary-condition": ["error", { allowConstantLoopConditions: true }],
    },
  },
  {
    files: ["test/**/*.ts"],
    rules: {
      // vitest's matchers, such as expect.any, are of type any.
      "@typescript-eslint/no-unsafe-assignment": "off",
      // A test may leave a response loop empty.
      "no-empty": "off",
    },
  },
  { files: ["**/*.js"], rules: { "no-redeclare": ["error", { builtinGlobals: false }] } },
);
