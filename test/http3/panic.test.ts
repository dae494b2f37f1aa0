import { expect, it } from "vitest";
import { until, within } from "../support/deadline.ts";
import { streamLanes, useStreams, useTlsFiles } from "../support/streams.ts";

useTlsFiles();

// The engine's map of headers takes 24,576 at most, and panics at more: no handler has a use for so many.
const tooMany = Object.fromEntries(Array.from({ length: 40_000 }, (_, i) => [`x-${i}`, "1"]));

it("a panic in the engine is logged with its message and its place, counted, and ends what it happened in", async () => {
  const lane = streamLanes.find(({ httpVersion }) => httpVersion === "3");
  if (lane === undefined) throw new Error("there is no such lane");
  const { client, server, errors } = await useStreams(
    lane,
    {
      "/many": (request) => {
        request.accept({ header: tooMany });
      },
    },
    { adminPort: 0 },
  );
  const outcome = client.openStream("/many").then(
    () => "opened",
    () => "failed",
  );
  expect(await within(20_000, "the end of the stream", outcome)).toBe("failed");
  await until(20_000, "the line in the log", () => errors.length > 0);
  expect(errors[0]).toMatchObject({
    msg: "the HTTP/3 engine has panicked: what it happened in was ended",
    // What was wrong, and the file and line in the sources of the engine or of what it is made of.
    panic: expect.stringMatching(/\S.* \(\S+\.rs:\d+:\d+\)$/) as string,
  });
  const metrics = await (await fetch(server.adminUrl ?? "")).text();
  expect(metrics).toMatch(/^sluice_http3_panics_total [1-9]/m);
  // The connection goes on.
  expect((await client.greet.greet({ name: "Ada" })).greeting).toBe("Hello, Ada!");
});
