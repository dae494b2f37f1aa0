import { expect, it } from "vitest";
import { nativeSources } from "../../scripts/native-sources.ts";
import { loadBinding } from "../../src/http3/load-binding.ts";

it("the HTTP/3 engine is built from the sources that are here (`npm run native:build`)", () => {
  expect(loadBinding().nativeSources()).toBe(nativeSources());
});
