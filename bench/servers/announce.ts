/** Tells the benchmark, which started this process, where it listens; and ends in order, so that profiles are written. */
export function announce(port: number, host = "127.0.0.1"): void {
  process.once("SIGTERM", () => {
    process.exit();
  });
  process.stdout.write(`listening on ${host}:${port}\n`);
}
