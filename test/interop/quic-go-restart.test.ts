import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { startServerProcess } from "../support/server-process.ts";
import type { ServerProcess } from "../support/server-process.ts";
import { useCertificateFiles } from "./support/certificates.ts";
import { useGoPrograms } from "./support/go.ts";
import { useProgram } from "./support/programs.ts";

const program = useGoPrograms("rawclient");
const files = useCertificateFiles();

// quic-go itself gives a connection up after 30 s without an answer: longer than anything is waited for here.
it("a quic-go client learns by a stateless reset that the server has been killed and started again", async () => {
  const dataDir = await mkdtemp(join(tmpdir(), "sluice-go-restart-"));
  onTestFinished(() => rm(dataDir, { recursive: true, force: true }));
  const start = (port: string): Promise<ServerProcess> =>
    startServerProcess(["--tls-cert", files.cert, "--tls-key", files.key, "--http3", "--port", port], { dataDir });
  const server = await start("0");
  const client = useProgram(program("rawclient"), ["-ca", files.ca, "repeat", `${server.url}/nothing`]);
  client.write("first\n");
  await client.printed(/^head 404$/);
  server.kill("SIGKILL");
  await server.exited;
  await start(new URL(server.url).port);
  client.write("second\n");
  await client.printed(/^failed stateless reset$/);
  client.write("third\n");
  await client.printed(/^head 404$/, 2);
  expect(client.lines).toEqual(["head 404", "failed stateless reset", "head 404"]);
});
