import { createSocket } from "node:dgram";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { createSluiceClient } from "../../src/client/index.ts";
import { random } from "../support/cutting-proxy.ts";
import { within } from "../support/deadline.ts";
import { tlsFiles } from "../support/http3.ts";
import { useServer } from "../support/server.ts";

/** The first byte of a packet, and the version after it. */
const heads = [
  // Initial, Handshake, 0-RTT and Retry of version 1, a version that there is not, a short header.
  [0xc0, 0, 0, 0, 1],
  [0xe0, 0, 0, 0, 1],
  [0xd0, 0, 0, 0, 1],
  [0xf0, 0, 0, 0, 1],
  [0xc0, 0x1a, 0x2a, 0x3a, 0x4a],
  [0x40],
  [],
];

// What is within a connection is in native/tests/protocol.rs: it takes a client that encrypts.
it("serves on under datagrams that mean nothing", async () => {
  const dir = await mkdtemp(join(tmpdir(), "sluice-garbage-"));
  onTestFinished(() => rm(dir, { recursive: true }));
  const files = { tlsCert: join(dir, "cert.pem"), tlsKey: join(dir, "key.pem") };
  await Promise.all([writeFile(files.tlsCert, tlsFiles.cert), writeFile(files.tlsKey, tlsFiles.key)]);
  const server = await useServer({ ...files, http3: true, adminPort: 0 });
  const client = createSluiceClient({ url: server.url, token: "sample", ca: tlsFiles.ca, httpVersion: "3" });
  onTestFinished(() => client.close());
  const next = random(20_261_121);
  const socket = createSocket("udp4");
  onTestFinished(() => {
    socket.close();
  });
  for (let round = 0; round < 20; round++) {
    for (let i = 0; i < 100; i++) {
      const head = heads[Math.floor(next() * heads.length)] ?? [];
      const rest = Buffer.from(Array.from({ length: Math.floor(next() * 1500) }, () => Math.floor(next() * 256)));
      const datagram = Buffer.concat([Buffer.from(head), rest]);
      await new Promise((resolve) => {
        socket.send(datagram, server.http3Port ?? 0, "127.0.0.1", resolve);
      });
    }
    const { greeting } = await within(10_000, "an answer", client.greet.greet({ name: String(round) }));
    expect(greeting).toBe(`Hello, ${round}!`);
  }
  const metrics = await (await fetch(server.adminUrl ?? "")).text();
  expect(metrics).toMatch(/^sluice_http3_panics_total 0$/m);
  expect(metrics).toMatch(/^sluice_http3_streams 0$/m);
});
