import { Code } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DataService } from "../../gen/data/v1/data_pb.ts";
import { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.ts";
import type { Server } from "../../src/compose.ts";
import { Taker, failureOf, h2c, requests, useClient } from "../support/calls.ts";
import { within } from "../support/deadline.ts";
import { startServer } from "../support/server.ts";

const services = ["", GreetService.typeName, DataService.typeName];

for (const lane of [h2c.connect, h2c.grpc]) {
  describe(`health over ${lane.protocol}`, () => {
    let server: Server;
    beforeAll(async () => {
      server = await startServer();
    });
    afterAll(() => server.close());

    it("Check and List: the whole server and each service serve", async () => {
      const health = useClient(Health, server.url, lane);
      for (const service of services) {
        expect((await health.check({ service })).status, service).toBe(Status.SERVING);
      }
      expect((await health.check({})).status).toBe(Status.SERVING);
      const { statuses } = await health.list({});
      expect(Object.keys(statuses).sort()).toEqual([...services].sort());
      for (const { status } of Object.values(statuses)) expect(status).toBe(Status.SERVING);
    });

    it("Check: an unknown service is NOT_FOUND, and the message says which there are", async () => {
      const error = await failureOf(useClient(Health, server.url, lane).check({ service: "nope.v1.Nope" }));
      expect(error.code).toBe(Code.NotFound);
      for (const service of services) expect(error.rawMessage).toContain(service);
    });

    it("Watch: tells SERVING at once; an unknown service is SERVICE_UNKNOWN, and the call stays open", async () => {
      const health = useClient(Health, server.url, lane);
      for (const service of services) {
        expect((await new Taker(health.watch({ service })).take()).status).toBe(Status.SERVING);
      }
      const watched = health.watch({ service: "nope.v1.Nope" })[Symbol.asyncIterator]();
      const first = await within(5000, "the first status", watched.next());
      expect(first.value).toMatchObject({ status: Status.SERVICE_UNKNOWN });
      const next = watched.next().catch(() => "failed");
      // An answer to a later call has come, and still nothing on this one.
      for (let i = 0; i < 3; i++) await health.check({});
      expect(await Promise.race([next, Promise.resolve("open")])).toBe("open");
    });
  });

  it(`a drain over ${lane.protocol}: each Watch is told NOT_SERVING before it ends, and Check still answers`, async () => {
    const server = await startServer({ drainTimeout: 600_000 });
    const health = useClient(Health, server.url, lane);
    const watches = services.map((service) => new Taker(health.watch({ service })));
    for (const watch of watches) expect((await watch.take()).status).toBe(Status.SERVING);
    const unknown = new Taker(health.watch({ service: "nope.v1.Nope" }));
    expect((await unknown.take()).status).toBe(Status.SERVICE_UNKNOWN);
    // A call that is running keeps the drain, and the connection, open.
    const names = requests({ name: "Ada" });
    const running = new Taker(useClient(GreetService, server.url, lane).greetEach(names));
    await running.take();
    const check = useClient(Health, server.url, lane);
    await check.check({});

    const closed = server.close();
    for (const watch of watches) {
      expect((await watch.take()).status).toBe(Status.NOT_SERVING);
      expect((await failureOf(watch.take())).code).toBe(Code.Unavailable);
    }
    names.end();
    expect(await running.rest()).toEqual([]);
    expect((await failureOf(unknown.take())).code).toBe(Code.Unavailable);
    await within(15_000, "the close", closed);
  });
}
