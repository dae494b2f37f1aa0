import { join } from "node:path";
import type { CertificateFiles } from "./certificates.ts";
import { buildDir, namedIn } from "./contenders.ts";

/** A server of BenchService over TLS. */
export interface Http3Contender {
  readonly name: string;
  readonly title: string;
  readonly http3: boolean;
  readonly command: (files: CertificateFiles, nodeOptions: readonly string[]) => readonly [string, ...string[]];
}

function sluice(http3: boolean): Pick<Http3Contender, "http3" | "command"> {
  const script = join(import.meta.dirname, "servers/sluice-tls.ts");
  return {
    http3,
    command: ({ cert, key }, nodeOptions) => [
      process.execPath,
      ...nodeOptions,
      script,
      `--cert=${cert}`,
      `--key=${key}`,
    ],
  };
}

function quicGo(...options: string[]): Pick<Http3Contender, "http3" | "command"> {
  return {
    http3: true,
    command: ({ cert, key }) => [join(buildDir, "http3server"), `-cert=${cert}`, `-key=${key}`, ...options],
  };
}

/** The one that the others are compared with stands first. */
const http3Contenders: readonly Http3Contender[] = [
  { name: "sluice", title: "Sluice, HTTP/3", ...sluice(true) },
  { name: "quic-go", title: "connect-go on quic-go", ...quicGo() },
  { name: "quic-go-raw", title: "quic-go alone", ...quicGo("-raw") },
  { name: "sluice-http2", title: "Sluice, HTTP/2", ...sluice(false) },
];

/** Those that are named, or all. */
export function selectHttp3Contenders(names: readonly string[]): readonly Http3Contender[] {
  return namedIn(http3Contenders, names);
}
