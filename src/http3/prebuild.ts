import { join } from "node:path";

/** Where the engine for this machine is kept, in the project's directory. */
export function prebuildPath(root: string): string {
  return join(root, "native/prebuilds", platformName(), "sluice.node");
}

/** Such as linux-x64-gnu, linux-arm64-musl or darwin-arm64. */
function platformName(): string {
  const { platform, arch } = process;
  if (platform !== "linux") return `${platform}-${arch}`;
  const report = process.report as NodeJS.ProcessReport & { excludeNetwork?: boolean };
  const { excludeNetwork = false } = report;
  // Otherwise the report looks up the names of all peers.
  report.excludeNetwork = true;
  const { header } = report.getReport() as { header?: { glibcVersionRuntime?: string } };
  report.excludeNetwork = excludeNetwork;
  return `${platform}-${arch}-${header?.glibcVersionRuntime === undefined ? "musl" : "gnu"}`;
}
