/** Tells the benchmark, which started this process, where it listens; and ends in order, so that profiles are written. */
export function announce(port: number): void {
  process.once("SIGTERM", () => {
    process.exit();
  });
  process.stdout.write(`listening on 127.0.0.1:${port}\n`);
}
