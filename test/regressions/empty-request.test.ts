import { Code } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { DataService } from "../../gen/data/v1/data_pb.ts";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { collect, failureOf, h2c, requests, useClient } from "../support/calls.ts";
import { useServer } from "../support/server.ts";

// The request had ended before its body was looked at: the handler waited for a first message for ever.
describe("a stream whose client sends no message is answered at once", () => {
  for (const lane of Object.values(h2c)) {
    it(`over ${lane.protocol}`, async () => {
      const { url } = await useServer();
      const none = () => requests<object>().ended();
      // Each on a connection of its own, where the end follows the headers most closely.
      for (const call of [
        () => useClient(DataService, url, lane).upload(none()),
        () => collect(useClient(DataService, url, lane).exchange(none())),
        () => useClient(GreetService, url, lane).greetAll(none()),
      ]) {
        expect((await failureOf(call())).code).toBe(Code.InvalidArgument);
      }
      expect(await collect(useClient(GreetService, url, lane).greetEach(none()))).toEqual([]);
    });
  }
});
