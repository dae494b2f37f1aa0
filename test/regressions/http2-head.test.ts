import { connect } from "node:http2";
import { once } from "node:events";
import { expect, it, onTestFinished } from "vitest";
import { closing, within } from "../support/deadline.ts";
import { useServer } from "../support/server.ts";

// node:http2 ends the body of the answer to a HEAD before anybody has answered: the answer was taken for sent.
it.each([
  ["/nowhere", 404],
  ["/greet.v1.GreetService/Greet", 405],
])("HEAD %s is answered with %i over HTTP/2", async (path, expected) => {
  const server = await useServer();
  const session = connect(server.url);
  onTestFinished(() => {
    session.destroy();
  });
  const stream = session.request({ ":method": "HEAD", ":path": path });
  const [headers] = (await within(10_000, "the answer", once(stream, "response"))) as [{ ":status": number }];
  stream.resume();
  await within(10_000, "the end", closing(stream));
  expect(headers[":status"]).toBe(expected);
});
