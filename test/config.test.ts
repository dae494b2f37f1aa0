import { describe, expect, it } from "vitest";
import {
  clientOptions,
  formatBytes,
  formatDuration,
  parseBytes,
  parseDuration,
  parseOptions,
  parseServerConfig,
  resolveConfig,
  serverOptions,
} from "../src/config.ts";
import { isDomainError } from "../src/errors.ts";

function configError(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (isDomainError(error, "config")) return error.message;
    throw error;
  }
  throw new Error("it was accepted");
}

describe("server options", () => {
  it("fills in every default", () => {
    const config = resolveConfig();
    for (const [key, spec] of Object.entries(serverOptions)) {
      expect(config).toHaveProperty(key, spec.default);
    }
    expect(Object.isFrozen(config)).toBe(true);
  });

  it("prefers a flag to the environment, and that to the default", () => {
    const env = { SLUICE_PORT: "9000", SLUICE_UNARY_TIMEOUT: "5s", SLUICE_LOG_LEVEL: "" };
    const config = parseServerConfig({ port: "9001" }, env);
    expect(config.port).toBe(9001);
    expect(config.unaryTimeout).toBe(5000);
    expect(config.logLevel).toBe("info");
  });

  it("gives every option a name of its own in the environment", () => {
    const names = [...Object.values(serverOptions), ...Object.values(clientOptions)].map((spec) => spec.env);
    expect(new Set(names).size).toBe(names.length);
  });

  const bad: [flags: Record<string, string | boolean>, message: RegExp][] = [
    [{ port: "http" }, /--port must be a whole number, from 0 to 65535, not "http"/],
    [{ port: "65536" }, /--port .* not "65536"/],
    [{ port: "-1" }, /--port .* not "-1"/],
    [{ port: "1e3" }, /--port .* not "1e3"/],
    [{ unaryTimeout: "10" }, /--unary-timeout must be a duration such as 250ms, 10s or 5m, from 50ms to 1d/],
    [{ maxMessageBytes: "4MB" }, /--max-message-bytes must be a size such as 65536, 64KiB or 4MiB/],
    [{ store: "postgres" }, /--store must be one of lmdb, memory, not "postgres"/],
    [{ compressStreams: "perhaps" }, /--compress-streams must be true or false/],
    [{ tlsCert: "cert.pem" }, /--tls-cert and --tls-key must be given together/],
    [{ tlsClientCa: "ca.pem" }, /--tls-client-ca needs --tls-cert and --tls-key/],
    [{ webtransportPath: "sessions" }, /--webtransport-path must begin with a slash/],
    [{ host: "0.0.0.0" }, /refusing to listen on 0\.0\.0\.0 without --tokens-file or --jwks/],
    [{ host: "::" }, /refusing to listen on ::/],
    [{ corsOrigins: "*" }, /--cors-origins "\*" needs --tokens-file or --jwks: .*every page in a browser/],
    [{ corsOrigins: "https://a.example,*" }, /--cors-origins "\*" needs --tokens-file/],
    [{ corsOrigins: "null", tokensFile: "t" }, /must not list "null": it is the origin of every sandboxed page/],
    [{ corsOrigins: "https://a.example/" }, /"https:\/\/a.example\/", which is no origin: give "https:\/\/a.example"/],
    [{ corsOrigins: "https://a.example/app?x" }, /give "https:\/\/a.example", as browsers send it/],
    [{ corsOrigins: "https://a.example:443" }, /give "https:\/\/a.example", as browsers send it/],
    [{ corsOrigins: "HTTPS://A.example" }, /give "https:\/\/a.example", as browsers send it/],
    [{ corsOrigins: "https://münchen.example" }, /give "https:\/\/xn--mnchen-3ya.example"/],
    [{ corsOrigins: "https://me@a.example" }, /give "https:\/\/a.example"/],
    [{ corsOrigins: "chrome-extension://abc/" }, /give "chrome-extension:\/\/abc"/],
    [{ corsOrigins: "a.example" }, /"a.example", which is no origin: give an origin such as .*, with its scheme/],
    [{ corsOrigins: "localhost:3000" }, /give an origin such as https:\/\/app.example.com, with its scheme/],
    [{ corsOrigins: "https://*.example" }, /takes no patterns: list each origin/],
    [{ allowedHosts: "https://a.example" }, /--allowed-hosts must be hosts without scheme and port, .* not "https/],
    [{ allowedHosts: "a.example:8080" }, /not "a.example:8080"/],
    [{ allowedHosts: "[::1]:80" }, /not "\[::1\]:80"/],
    [{ allowedHosts: "*" }, /not "\*"/],
    [{ allowedHosts: "a.example/x" }, /not "a.example\/x"/],
    [{ allowedHosts: "a b" }, /not "a b"/],
    [{ maxBatchBytes: "8MiB" }, /--max-batch-bytes must not be larger than --max-message-bytes/],
  ];
  for (const [flags, message] of bad) {
    it(`refuses ${JSON.stringify(flags)}`, () => {
      expect(configError(() => parseServerConfig(flags, {}))).toMatch(message);
    });
  }

  it("names the variable when the environment is wrong", () => {
    expect(configError(() => parseServerConfig({}, { SLUICE_PORT: "x" }))).toMatch(/^SLUICE_PORT must be/);
  });

  it("refuses values out of range that are given as values", () => {
    expect(configError(() => resolveConfig({ drainTimeout: -1 }))).toMatch(/--drain-timeout/);
    expect(configError(() => resolveConfig({ maxCalls: 0.5 }))).toMatch(/--max-calls/);
  });

  it("takes origins and hosts in the forms that there are", () => {
    const corsOrigins =
      "https://a.example,http://localhost:3000,http://[::1]:1,https://[fd00::1],chrome-extension://abc";
    const allowedHosts = "a.example,B.example.,10.0.0.7,fd00::7,[fd00::8],::1,a_b.internal";
    const config = parseServerConfig({ corsOrigins, allowedHosts }, {});
    expect(config.corsOrigins).toEqual(corsOrigins.split(","));
    expect(config.allowedHosts).toEqual(allowedHosts.split(","));
    expect(parseServerConfig({ corsOrigins: "*", tokensFile: "t" }, {}).corsOrigins).toEqual(["*"]);
    expect(parseServerConfig({ corsOrigins: "*", jwks: "j" }, {}).corsOrigins).toEqual(["*"]);
  });

  it("listens beyond loopback with a tokens file", () => {
    expect(parseServerConfig({ host: "0.0.0.0", tokensFile: "tokens.json" }, {}).host).toBe("0.0.0.0");
  });

  it("splits lists, and takes `none` for an empty one", () => {
    const config = parseServerConfig({ corsOrigins: "https://a.example, https://b.example", openServices: "none" }, {});
    expect(config.corsOrigins).toEqual(["https://a.example", "https://b.example"]);
    expect(config.openServices).toEqual([]);
  });
});

describe("client options", () => {
  it("takes the URL and the token from the environment", () => {
    const options = parseOptions(clientOptions, {}, { SLUICE_URL: "https://h:1", SLUICE_TOKEN: "t" });
    expect(options).toMatchObject({
      url: "https://h:1",
      token: "t",
      protocol: "connect",
      httpVersion: "2",
      timeout: 0,
    });
  });
});

describe("units", () => {
  const durations: [string, number][] = [
    ["0", 0],
    ["250ms", 250],
    ["1.5s", 1500],
    ["10s", 10_000],
    ["5m", 300_000],
    ["1h", 3_600_000],
    ["7d", 604_800_000],
    ["10", NaN],
    ["-1s", NaN],
    ["s", NaN],
    ["1 s", NaN],
    ["", NaN],
  ];
  for (const [text, ms] of durations) {
    it(`reads the duration "${text}" as ${ms}`, () => {
      expect(parseDuration(text)).toBe(ms);
    });
  }
  const sizes: [string, number][] = [
    ["0", 0],
    ["65536", 65536],
    ["64KiB", 65536],
    ["4MiB", 4194304],
    ["1GiB", 1073741824],
    ["4MB", NaN],
    ["1.5MiB", NaN],
    ["-1", NaN],
    ["", NaN],
  ];
  for (const [text, size] of sizes) {
    it(`reads the size "${text}" as ${size}`, () => {
      expect(parseBytes(text)).toBe(size);
    });
  }
  it("writes what it reads", () => {
    for (const ms of [0, 1, 250, 1000, 90_000, 3_600_000, 86_400_000]) {
      expect(parseDuration(formatDuration(ms))).toBe(ms);
    }
    for (const size of [0, 1, 1000, 1024, 1536, 4194304, 2 ** 46]) {
      expect(parseBytes(formatBytes(size))).toBe(size);
    }
  });
});
