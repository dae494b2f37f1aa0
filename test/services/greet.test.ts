import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import type { Server } from "../../src/compose.ts";
import { Taker, collect, failureOf, h2c, requests, useClient } from "../support/calls.ts";
import { within } from "../support/deadline.ts";
import { startServer } from "../support/server.ts";

let server: Server;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server.close());

const useGreet = (lane: (typeof h2c)[keyof typeof h2c] = h2c.grpc) => useClient(GreetService, server.url, lane);

async function greetings(messages: AsyncIterable<{ greeting: string }>): Promise<string[]> {
  return (await collect(messages)).map(({ greeting }) => greeting);
}

describe("what GreetService says", () => {
  it("greets one, all together, repeatedly and each", async () => {
    const greet = useGreet();
    expect((await greet.greet({ name: "Zoë" })).greeting).toBe("Hello, Zoë!");
    for (const [names, expected] of [
      [["Ada"], "Hello, Ada!"],
      [["Ada", "Grace"], "Hello, Ada and Grace!"],
      [["Ada", "Grace", "Edsger"], "Hello, Ada, Grace and Edsger!"],
    ] as const) {
      const all = requests(...names.map((name) => ({ name }))).ended();
      expect((await greet.greetAll(all)).greeting).toBe(expected);
    }
    expect(await greetings(greet.greetRepeatedly({ name: "Ada", times: 3 }))).toEqual(Array(3).fill("Hello, Ada!"));
    const each = requests({ name: "Ada" }, { name: "Grace" }).ended();
    expect(await greetings(greet.greetEach(each))).toEqual(["Hello, Ada!", "Hello, Grace!"]);
    expect(await greetings(greet.greetEach(requests<{ name: string }>().ended()))).toEqual([]);
  });

  it("greets once if times is unset or 0, and takes names of 1 to 100 characters", async () => {
    const greet = useGreet();
    expect(await greetings(greet.greetRepeatedly({ name: "Ada" }))).toEqual(["Hello, Ada!"]);
    expect(await greetings(greet.greetRepeatedly({ name: "Ada", times: 0 }))).toEqual(["Hello, Ada!"]);
    const long = "é".repeat(100);
    expect((await greet.greet({ name: long })).greeting).toBe(`Hello, ${long}!`);
    for (const name of ["", `${long}x`]) {
      expect((await failureOf(greet.greet({ name }))).code).toBe(Code.InvalidArgument);
    }
  });

  it("bounds times and interval", async () => {
    const greet = useGreet();
    for (const bad of [
      { times: -1 },
      { times: 1_000_001 },
      { interval: { seconds: -1n } },
      { interval: { seconds: 3600n, nanos: 1 } },
    ]) {
      const error = await failureOf(collect(greet.greetRepeatedly({ name: "Ada", ...bad })));
      expect(error.code, JSON.stringify(Object.keys(bad))).toBe(Code.InvalidArgument);
    }
    // The largest that are allowed are not waited for.
    const most = new Taker(greet.greetRepeatedly({ name: "Ada", times: 1_000_000, interval: { seconds: 3600n } }));
    expect((await most.take()).greeting).toBe("Hello, Ada!");
  });

  it("waits between greetings, and each leaves as it is made", async () => {
    const greet = useGreet();
    // The next one is an hour away: the first must not wait for it.
    const first = new Taker(greet.greetRepeatedly({ name: "Ada", times: 2, interval: { seconds: 3600n } }));
    expect((await first.take()).greeting).toBe("Hello, Ada!");
    const began = performance.now();
    const call = greet.greetRepeatedly({ name: "Ada", times: 3, interval: { nanos: 150_000_000 } });
    expect(await greetings(call)).toEqual(Array(3).fill("Hello, Ada!"));
    // Two intervals; timers may fire a little early.
    expect(performance.now() - began).toBeGreaterThan(290);
  });

  it("takes 1,000 names together, not none and not more", async () => {
    const greet = useGreet();
    const names = (count: number) => requests(...Array.from({ length: count }, (_, i) => ({ name: `n${i}` }))).ended();
    expect((await greet.greetAll(names(1000))).greeting).toMatch(/^Hello, n0, n1, .* and n999!$/);
    const many = await failureOf(greet.greetAll(names(1001)));
    expect(many.code).toBe(Code.ResourceExhausted);
    expect(many.rawMessage).toContain("1000 names");
    const none = await failureOf(greet.greetAll(names(0)));
    expect(none.code).toBe(Code.InvalidArgument);
    expect(none.rawMessage).toBe("send at least one name");
  });

  it("can be asked by GET", async () => {
    const query = new URLSearchParams({ connect: "v1", encoding: "json", message: JSON.stringify({ name: "Ada" }) });
    const url = new URL(`/greet.v1.GreetService/Greet?${query.toString()}`, server.url);
    const authorization = { authorization: "Bearer sample" };
    const response = await fetch(url, { headers: authorization });
    expect(response.status).toBe(200);
    expect(response.headers.get("greet-version")).toBe("v1");
    expect(response.headers.get("trailer-greet-count")).toBe("1");
    expect(await response.json()).toEqual({ greeting: "Hello, Ada!" });

    // It has side effects, or could have: only POST.
    const post = await fetch(new URL("/data.v1.DataService/CreateStream", server.url), { headers: authorization });
    expect(post.status).toBe(405);
  });
});

for (const lane of Object.values(h2c)) {
  describe(`Greet-Version and Greet-Count over ${lane.protocol}`, () => {
    interface Seen {
      version: string | null;
      count: string | null;
    }

    /** The header and the trailer, of a success or of a failure. */
    async function seen(call: (options: object) => Promise<unknown>): Promise<Seen & { error?: ConnectError }> {
      let header = new Headers();
      let trailer = new Headers();
      const options = { onHeader: (h: Headers) => (header = h), onTrailer: (t: Headers) => (trailer = t) };
      try {
        await within(10_000, "the end of the call", call(options));
        return { version: header.get("greet-version"), count: trailer.get("greet-count") };
      } catch (reason) {
        const error = ConnectError.from(reason);
        // What an error's metadata holds are the headers and trailers of its response.
        const find = (name: string): string | null =>
          header.get(name) ?? trailer.get(name) ?? error.metadata.get(name) ?? error.metadata.get(`trailer-${name}`);
        return { version: find("greet-version"), count: find("greet-count"), error };
      }
    }

    const names = (...all: string[]) => requests(...all.map((name) => ({ name }))).ended();

    it("come with every shape", async () => {
      const greet = useGreet(lane);
      for (const [call, count] of [
        [(options: object) => greet.greet({ name: "Ada" }, options), "1"],
        [(options: object) => greet.greetAll(names("Ada", "Grace"), options), "1"],
        [(options: object) => collect(greet.greetRepeatedly({ name: "Ada", times: 4 }, options)), "4"],
        [(options: object) => collect(greet.greetEach(names("Ada", "Grace"), options)), "2"],
        [(options: object) => collect(greet.greetEach(names(), options)), "0"],
      ] as const) {
        expect(await seen(call)).toEqual({ version: "v1", count });
      }
    });

    it("come with errors, with the greetings that were made", async () => {
      const greet = useGreet(lane);
      const stranger = { headers: { "acme-token": "wrong" } };
      for (const [what, call, code, count] of [
        [
          "unary, a wrong token",
          (options: object) => greet.greet({ name: "Ada" }, { ...stranger, ...options }),
          Code.Unauthenticated,
          "0",
        ],
        [
          "bidi, a wrong token",
          (options: object) => collect(greet.greetEach(names("Ada"), { ...stranger, ...options })),
          Code.Unauthenticated,
          "0",
        ],
        ["unary, a bad name", (options: object) => greet.greet({ name: "" }, options), Code.InvalidArgument, "0"],
        ["client, no name", (options: object) => greet.greetAll(names(), options), Code.InvalidArgument, "0"],
        [
          "client, a bad name",
          (options: object) => greet.greetAll(names("Ada", ""), options),
          Code.InvalidArgument,
          "0",
        ],
        [
          "server, a bad number",
          (options: object) => collect(greet.greetRepeatedly({ name: "Ada", times: -1 }, options)),
          Code.InvalidArgument,
          "0",
        ],
        [
          "bidi, a bad name",
          (options: object) => collect(greet.greetEach(names("Ada", ""), options)),
          Code.InvalidArgument,
          "1",
        ],
      ] as const) {
        const { version, count: counted, error } = await seen(call);
        expect(error?.code, what).toBe(code);
        expect({ version, count: counted }, what).toEqual({ version: "v1", count });
      }
    });
  });
}
