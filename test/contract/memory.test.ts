import { createMemoryStore } from "../../src/store/memory.ts";
import { describeStore } from "./store-contract.ts";

describeStore("memory", (options) => Promise.resolve(createMemoryStore(options)));
