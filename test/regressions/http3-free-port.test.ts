import { createSocket } from "node:dgram";
import type { SocketType } from "node:dgram";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it, onTestFinished } from "vitest";
import type { Config } from "../../src/config.ts";
import { tlsFiles } from "../support/http3.ts";
import { startServer } from "../support/server.ts";

const hasIPv6 = Object.values(networkInterfaces()).some((list) => list?.some(({ address }) => address === "::1"));

let dir: string;
let files: Partial<Config>;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "sluice-port-"));
  files = { tlsCert: join(dir, "cert.pem"), tlsKey: join(dir, "key.pem") };
  await Promise.all([writeFile(join(dir, "cert.pem"), tlsFiles.cert), writeFile(join(dir, "key.pem"), tlsFiles.key)]);
});
afterAll(() => rm(dir, { recursive: true }));

/** About one free port in ten, so that of fifty servers some come upon one. */
async function occupyPorts(type: SocketType, address: string): Promise<void> {
  const sockets = Array.from({ length: 3000 }, () => createSocket(type));
  onTestFinished(() => {
    for (const socket of sockets) socket.close();
  });
  await Promise.all(sockets.map((socket) => new Promise<void>((resolve) => socket.bind(0, address, resolve))));
}

// The number that the system had chosen was free with TCP, or with IPv4, and the server did not start if it was in
// use with UDP, or with IPv6: any client of HTTP/3, or of DNS, might have it.
it.each([
  ["with TCP is in use with UDP", "udp4", "127.0.0.1", { host: "127.0.0.1" }],
  ["with IPv4 is in use with IPv6", "udp6", "::1", { host: "localhost", http3Port: 0 }],
] as const)("a server takes another free port if the one that is free %s", async (_, type, address, config) => {
  if (type === "udp6" && !hasIPv6) return;
  await occupyPorts(type, address);
  for (let i = 0; i < 50; i++) {
    const server = await startServer({ ...files, http3: true, ...config });
    if (config.host === "127.0.0.1") expect(server.url).toBe(`https://127.0.0.1:${server.http3Port ?? 0}`);
    await server.close();
  }
});
