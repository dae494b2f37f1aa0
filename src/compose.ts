import { getHeapStatistics } from "node:v8";
import { Code, ConnectError, createContextValues } from "@connectrpc/connect";
import type { ContextValues, HandlerContext, Interceptor } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import { createValidateInterceptor } from "@connectrpc/validate";
import { DataService } from "../gen/data/v1/data_pb.ts";
import { GreetService } from "../gen/greet/v1/greet_pb.ts";
import { Health } from "../gen/grpc/health/v1/health_pb.ts";
import { again } from "./async/again.ts";
import { settleAll } from "./async/settle-all.ts";
import { onAbort, settledWithin, sleep } from "./async/signals.ts";
import { AdmittedCalls } from "./auth/admitted-calls.ts";
import { CallScopes } from "./auth/call-scopes.ts";
import type { ServiceRouter } from "./auth/call-scopes.ts";
import { endAtExpiry } from "./auth/expiry.ts";
import { createRequestGate, tokenOf } from "./auth/gate.ts";
import { principalKey } from "./auth/principal.ts";
import type { Principal } from "./auth/principal.ts";
import { allows, parseScope } from "./auth/scopes.ts";
import type { Permission } from "./auth/scopes.ts";
import { createVerifier } from "./auth/verifier.ts";
import { printable } from "./clip.ts";
import { isLoopback, sampleToken, takesSampleToken } from "./config.ts";
import type { Config } from "./config.ts";
import { isDomainError, isPortInUse } from "./errors.ts";
import { describeOpenFiles } from "./file-modes.ts";
import { createHostCheck } from "./hosts.ts";
import type { Http3Listener } from "./http3/listener.ts";
import type { WebTransportSession } from "./http3/webtransport-session.ts";
import { listenAdmin } from "./listen/admin.ts";
import { Admission } from "./listen/admission.ts";
import { listen } from "./listen/listen.ts";
import type { Listener } from "./listen/listen.ts";
import { Refusals } from "./listen/refusals.ts";
import { readTlsFiles } from "./listen/tls-files.ts";
import { addConnectionMetrics } from "./observe/connection-metrics.ts";
import { createLogger, noteAtIntervals, redactHeaders } from "./observe/log.ts";
import type { Logger } from "./observe/log.ts";
import { addDiskMetrics } from "./observe/disk-metrics.ts";
import { addHttp3Metrics } from "./observe/http3-metrics.ts";
import { createMetrics } from "./observe/metrics.ts";
import { createUnknownPathLog } from "./observe/unknown-paths.ts";
import { RecentKeys } from "./observe/recent-keys.ts";
import { callKey } from "./runtime/call.ts";
import { withCors } from "./runtime/cors.ts";
import { createRuntime, messageElements } from "./runtime/handler.ts";
import { createHostGuard } from "./runtime/hosts.ts";
import type { CallRecord } from "./runtime/running-calls.ts";
import { retryLater } from "./runtime/memory-budget.ts";
import { nodeHandlers } from "./runtime/node-handlers.ts";
import type { HttpExchange } from "./runtime/exchange.ts";
import type { StreamRouter } from "./runtime/stream-routes.ts";
import { createDataService } from "./services/data.ts";
import { createErrorInterceptor, toConnectError } from "./services/error-codes.ts";
import { createGreetService, prepareGreeting } from "./services/greet.ts";
import { HealthState, createHealthService } from "./services/health.ts";
import { registerReflection } from "./services/reflection.ts";
import { createRequestValidator } from "./services/request-validator.ts";
import { openLmdbStore } from "./store/lmdb.ts";
import { createMemoryStore } from "./store/memory.ts";
import { startSweeper } from "./store/sweeper.ts";
import type { Store } from "./store/store.ts";

export interface StartOptions {
  /** Where to log. The default writes JSON lines to standard error. */
  readonly log?: Logger;
  /**
   * Services of your own, behind the same port, gate, limits and logs. A token needs the scope that a service is added
   * with, or else `rpc:` and its name: `rpc:tally.v1.TallyService`.
   */
  readonly routes?: (router: ServiceRouter) => void;
  /**
   * Interceptors around the handlers of every service, the first one outermost. They run once the token and its scope
   * have been checked (`principalKey` has who calls), before messages are validated; what they throw is translated and
   * logged as a handler's failure is.
   */
  readonly interceptors?: readonly Interceptor[];
  /**
   * Streams that your handlers take over, over HTTP/2 and HTTP/3, behind the same. A token needs the scope that a stream
   * is added with, or else `rpc:` and its path: `rpc:/tunnel`.
   */
  readonly streams?: (router: StreamRouter) => void;
  /**
   * Called for each session of WebTransport whose token has `webTransportScope`: for its datagrams. The session is
   * closed when the token expires, is withdrawn or gets other scopes.
   */
  readonly onWebTransportSession?: (session: WebTransportSession, principal: Principal) => void;
  /** Default: `rpc:` and the path of sessions: `rpc:/webtransport`. */
  readonly webTransportScope?: string;
}

/** A running server. */
export interface Server {
  /** Where it listens, such as `http://127.0.0.1:8080`. */
  readonly url: string;
  /** The UDP port of HTTP/3, if it is on. */
  readonly http3Port?: number;
  /** Where its metrics are, if `adminPort` was given. */
  readonly adminUrl?: string;
  /**
   * Aborted when the store cannot be used any more, such as after a failed write of LMDB's own pages, or when another server
   * has taken over the data directory. Health is NOT_SERVING then, and calls to DataService fail with UNAVAILABLE: close
   * the server, and start another one.
   */
  readonly broken: AbortSignal;
  /**
   * Reads the tokens file, the JWKS and the TLS certificate with its key again.
   * Fails if one of them is wrong, which then stays as it was.
   */
  reload(): Promise<void>;
  /**
   * Drains, then closes: health turns NOT_SERVING, new calls are refused with
   * UNAVAILABLE, following reads end with it, running calls may finish within
   * `drainTimeout`, after `drainDelay`. Calling it again waits for the same end.
   */
  close(): Promise<void>;
  /**
   * Closes without the drain, or cuts short one that goes on: running calls end
   * with UNAVAILABLE, and appends that have been accepted are still committed.
   */
  abort(): Promise<void>;
}

/** How long calls that are ended at the close may take to tell their clients, in milliseconds. */
const farewellMs = 1000;

/**
 * Starts a server.
 *
 * Fails with a DomainError: "config" for wrong options, wrong scopes or a port in use,
 * "store-locked", "store-corrupt" or "store-unreadable" for the data directory.
 */
export async function start(config: Config, options: StartOptions = {}): Promise<Server> {
  const log = options.log ?? createLogger(config.logLevel);
  const cleanups: (() => Promise<void> | void)[] = [];
  try {
    return await startWith(config, options, log, cleanups);
  } catch (error) {
    for (const cleanup of cleanups.reverse()) await cleanup();
    throw error;
  }
}

async function startWith(
  config: Config,
  options: StartOptions,
  log: Logger,
  cleanups: (() => Promise<void> | void)[],
): Promise<Server> {
  const tls = await readTlsFiles(config);
  const onWarning = (message: string): void => {
    log.warn(message);
  };
  for (const message of describeOpenFiles(config)) onWarning(message);
  const store = await openStore(config, onWarning);
  cleanups.push(() => store.close());
  const admitted = new AdmittedCalls();
  let http3: Http3Listener | undefined;
  const metrics = createMetrics({
    activeCalls: () => runtime.activeCalls,
    connections: () => admission.size,
    memory: () => runtime.memory,
  });
  const damages = new RecentKeys();
  const onUnexpected = (error: unknown): void => {
    if (isDomainError(error, "records-damaged")) {
      const { stream, seq } = error.problem;
      if (damages.isNew(`${stream} ${seq}`)) log.error({ err: error }, "damaged records were asked for");
      return;
    }
    // A DomainError is a failure that is foreseen, such as a disk that does not answer.
    if (!isDomainError(error)) metrics.unexpectedError();
    log.error({ err: error }, "unexpected error");
  };
  const verifier = await createVerifier({
    tokensFile: config.tokensFile,
    jwks: config.jwks,
    jwtIssuer: config.jwtIssuer,
    jwtAudience: config.jwtAudience,
    sampleToken: takesSampleToken(config) ? sampleToken : undefined,
    onReload: () => {
      log.info("the tokens were read again");
      admitted
        .recheck((token) => verifier.verify(token), {
          refused: (error) => toConnectError(error, onUnexpected),
          // Whoever resumes is checked anew, and gets what the token allows now.
          changed: () =>
            new ConnectError("the token's rights have changed: connect again, and resume", Code.Unavailable),
        })
        .catch(onUnexpected);
    },
    onError: (error) => {
      log.error({ err: error }, "the tokens could not be read again; the ones from before stay in force");
    },
  });
  cleanups.push(() => {
    verifier.close();
  });

  const draining = new AbortController();
  const health = new HealthState(["", GreetService.typeName, DataService.typeName]);
  const gate = createRequestGate({
    verifier,
    openServices: config.openServices,
    onPrincipal: (context, principal, token) => {
      const call = context.values.get(callKey);
      if (call === undefined) return;
      endAtExpiry(call, principal, (error) => toConnectError(error, onUnexpected));
      // A unary call ends soon by itself, and what it was admitted for is done or not done.
      if (call.shape !== "unary") admitted.add(call, token, principal);
    },
  });
  const scopes = new CallScopes();
  const streamScopes = new Map<string, Permission>();
  const sessionScope = parseScopeOr(options.webTransportScope, config.webtransportPath);
  const requestGate = async (context: HandlerContext): Promise<void> => {
    if (log.isLevelEnabled("debug")) {
      log.debug({ method: context.method.name, headers: redactHeaders(context.requestHeader) }, "request");
    }
    if (context.service.typeName === GreetService.typeName) prepareGreeting(context);
    // Health goes on answering, so that an orchestrator sees NOT_SERVING instead of a failure.
    if (draining.signal.aborted && context.service.typeName !== Health.typeName) throw goingAway();
    const { service, method, requestHeader, values } = context;
    try {
      await gate({ service, requestHeader, values, needed: scopes.of(method) });
    } catch (error) {
      throw toConnectError(error, onUnexpected);
    }
  };

  const refusals = new Refusals((summary) => {
    log.warn(summary, "connections were refused, or closed by the server");
  });
  const admission = new Admission(config, refusals);
  const record = (call: CallRecord): void => {
    metrics.observe(call);
    log.info(
      {
        method: call.procedure,
        shape: call.shape,
        protocol: call.protocol,
        http: call.httpVersion,
        peer: call.peer,
        token: nameOf(call.values),
        code: call.code,
        messagesIn: call.messagesIn,
        messagesOut: call.messagesOut,
        bytesIn: call.bytesIn,
        bytesOut: call.bytesOut,
        durationMs: call.durationMs,
      },
      "call",
    );
  };

  const unknownPaths = createUnknownPathLog(log);
  const onUnknownPath = (path: string, peer: string): void => {
    metrics.countUnknownPath();
    unknownPaths.note(path, peer);
  };
  const runtime = createRuntime({
    ...config,
    connections: admission,
    onUnknownPath: ({ path, peer }) => {
      onUnknownPath(path, peer);
    },
    maxMessageElements: Math.max(messageElements(config.maxMessageBytes), config.maxBatchRecords * 16),
    routes(router) {
      router.service(GreetService, createGreetService());
      scopes.setService(GreetService, "greet");
      // DataService checks each stream by its name, which only the body tells.
      router.service(DataService, createDataService({ store, limits: config, drainSignal: draining.signal }));
      router.service(Health, createHealthService(health, draining.signal));
      options.routes?.(scopes.router(router));
      registerReflection(router);
    },
    interceptors: [
      createErrorInterceptor({ onUnexpected }),
      ...(options.interceptors ?? []),
      createValidateInterceptor({ validator: createRequestValidator() }),
    ],
    requestGate,
    streams: ({ onStream }) => {
      options.streams?.({
        onStream(path, handler, stream = {}) {
          onStream(path, handler, stream);
          streamScopes.set(path, parseScopeOr(stream.scope, path));
        },
      });
    },
    async streamGate({ path }, requestHeader, values) {
      log.debug({ stream: path, headers: redactHeaders(requestHeader) }, "request");
      if (draining.signal.aborted) throw goingAway();
      await gate({ requestHeader, values, needed: streamScopes.get(path) });
    },
    toConnectError: (error) => toConnectError(error, onUnexpected),
    onCallEnd: record,
    onLateHeaders: (procedure, names) => {
      log.warn(
        { method: procedure, headers: names },
        "headers set after they had left are lost: call holdHeaders() before the handler's first wait",
      );
    },
    onUnexpected,
  });
  addConnectionMetrics(metrics.registry, refusals);
  const allowsHost = createHostCheck(config.allowedHosts);
  const refuseHost =
    takesSampleToken(config) || config.allowedHosts.length > 0
      ? createHostGuard(
          allowsHost,
          noteAtIntervals((host, others) => {
            log.warn({ host, others }, "a request for a host that is not served: see --allowed-hosts");
          }),
        )
      : undefined;
  const withinCors = withCors(runtime.serve, {
    origins: config.corsOrigins,
    requestHeaders: ["Authorization", "Acme-Token"],
    responseHeaders: ["Greet-Version", "Greet-Count"],
  });
  /** Before everything else comes whether the request is for this server. */
  const serve = (exchange: HttpExchange): void => {
    if (refuseHost?.(exchange) === true) return;
    if (http3 !== undefined && !exchange.httpVersion.startsWith("3")) {
      exchange.addHeader("alt-svc", `h3=":${http3.port}"; ma=86400`);
    }
    withinCors(exchange);
  };
  const onAged = (connection: object): void => {
    runtime.end(
      retryLater(
        new ConnectError(
          "the connection has reached --max-connection-age: connect again, and resume",
          Code.Unavailable,
        ),
      ),
      connection,
    );
  };
  const beginSession = (session: WebTransportSession, token: string, principal: Principal): void => {
    if (options.onWebTransportSession === undefined || !allows(principal, sessionScope)) return;
    const end = (error: unknown): void => {
      const { code, rawMessage } = toConnectError(error, onUnexpected);
      session.close(code, rawMessage);
    };
    // Its calls end by themselves; its datagrams would not.
    const held = {
      signal: session.signal,
      end,
      onAbort(listener: (reason: Error) => void): void {
        onAbort(session.signal, listener);
      },
    };
    endAtExpiry(held, principal, (error) => error);
    admitted.add(held, token, principal);
    try {
      options.onWebTransportSession(session, principal);
    } catch (error) {
      end(error);
    }
  };
  const openListener = async (): Promise<Listener> => {
    const opened = await listen(nodeHandlers(serve, onUnexpected), { ...config, tls, onAged, onUnexpected, admission });
    try {
      http3 = await openHttp3(opened.port);
    } catch (error) {
      await opened.close();
      throw error;
    }
    return opened;
  };
  const openHttp3 = async (port: number): Promise<Http3Listener | undefined> => {
    if (!config.http3 || tls === undefined) return undefined;
    const { listenHttp3 } = await import("./http3/listener.ts");
    const { readHttp3Secret } = await import("./http3/secret.ts");
    const webtransport = {
      // Origins are judged when a session is opened: CORS is for what fetch asks.
      serve: runtime.serve,
      path: config.webtransportPath,
      origins: config.corsOrigins,
      onUnknownPath,
      async admit(header: Headers): Promise<(session: WebTransportSession) => void> {
        try {
          const token = tokenOf(header);
          const principal = await verifier.verify(token);
          return (session) => {
            beginSession(session, token, principal);
          };
        } catch (error) {
          throw toConnectError(error, onUnexpected);
        }
      },
      onRefused(code: Code, peer: string) {
        record({
          procedure: config.webtransportPath,
          shape: "bidi",
          protocol: "raw",
          httpVersion: "webtransport",
          peer,
          code: codeToString(code),
          messagesIn: 0,
          messagesOut: 0,
          bytesIn: 0,
          bytesOut: 0,
          durationMs: 0,
          values: createContextValues(),
        });
      },
    };
    return listenHttp3(serve, {
      ...config,
      port: config.http3Port ?? port,
      tls,
      onAged,
      onUnexpected,
      admission,
      secret: config.store === "lmdb" ? await readHttp3Secret(config.dataDir) : undefined,
      onPanic: (message) => {
        metrics.unexpectedError();
        log.error({ panic: message }, "the HTTP/3 engine has panicked: what it happened in was ended");
      },
      refuseHost,
      ...(config.webtransportPath === "none" ? {} : { webtransport }),
    });
  };
  // A number that the system has chosen for TCP may be in use with UDP.
  const attempts = config.port === 0 && config.http3Port === undefined ? 20 : 1;
  onAbort(store.broken, (reason) => {
    log.fatal({ err: reason }, "the store cannot be used any more: stop this server, and start it again");
    health.setAllServing(false);
  });
  const listener = await again(attempts, isPortInUse, openListener);
  cleanups.push(() => listener.close());
  const quic = http3;
  if (quic !== undefined) addHttp3Metrics(metrics.registry, () => quic.counters);
  if (store.disk !== undefined) addDiskMetrics(metrics.registry, () => store.disk);
  cleanups.push(() => http3?.close());
  const admin =
    config.adminPort === undefined
      ? undefined
      : await listenAdmin({
          host: config.adminHost,
          port: config.adminPort,
          allowsHost: isLoopback(config.adminHost) ? allowsHost : undefined,
          metrics: async () => ({ contentType: metrics.registry.contentType, text: await metrics.registry.metrics() }),
        });
  const stopSweeper = startSweeper(store, {
    intervalMs: config.sweepInterval,
    onError: (error) => {
      log.error({ err: error }, "retention could not be applied");
    },
    onClockJump: (ms) => {
      log.warn(
        { ms },
        `the clock was set ${ms > 0 ? "forward" : "back"}: retention by age and idle producers follow it`,
      );
    },
  });

  const cut = new AbortController();
  const close = async (): Promise<void> => {
    health.setAllServing(false);
    if (config.drainDelay > 0 && !store.broken.aborted) {
      log.info({ activeCalls: runtime.activeCalls, ms: config.drainDelay }, "about to drain: health is NOT_SERVING");
      await sleep(config.drainDelay, AbortSignal.any([cut.signal, store.broken])).catch(() => undefined);
    }
    log.info({ activeCalls: runtime.activeCalls }, "draining");
    draining.abort(goingAway());
    admission.drain();
    listener.drain();
    http3?.drain();
    await settledWithin(config.drainTimeout, runtime.idle(), cut.signal);
    runtime.end(goingAway());
    await settledWithin(farewellMs, runtime.idle());
    await stopSweeper();
    await Promise.all([listener.close(farewellMs), http3?.close()]);
    await admin?.close();
    verifier.close();
    await store.close();
    refusals.end();
    unknownPaths.end();
    log.info("closed");
  };
  const reloadTls = async (): Promise<void> => {
    const fresh = await readTlsFiles(config);
    if (fresh === undefined) return;
    listener.setTls(fresh);
    http3?.setTls(fresh);
    log.info("the TLS certificate was read again");
  };
  const reload = async (): Promise<void> => {
    try {
      await settleAll([verifier.reload(), reloadTls()]);
    } catch (error) {
      log.error({ err: error }, "not everything could be read again; what is wrong stays as it was before");
      throw error;
    }
  };
  let closing: Promise<void> | undefined;
  log.info(
    {
      url: listener.url,
      ...(http3 === undefined ? {} : { http3Port: http3.port }),
      admin: admin?.url,
      store: config.store,
    },
    "listening",
  );
  return {
    url: listener.url,
    ...(http3 === undefined ? {} : { http3Port: http3.port }),
    ...(admin === undefined ? {} : { adminUrl: admin.url }),
    broken: store.broken,
    reload,
    close: () => (closing ??= close()),
    abort() {
      cut.abort();
      return (closing ??= close());
    },
  };
}

/** What a scope stands for; if there is none, that with the path as its name. */
function parseScopeOr(scope: string | undefined, path: string): Permission {
  return scope === undefined ? { kind: "rpc", name: path } : parseScope(scope);
}

function goingAway(): ConnectError {
  return retryLater(new ConnectError("the server is shutting down: connect again, and resume", Code.Unavailable));
}

/** The name of a call's token, which an issuer may have chosen. */
function nameOf(values: ContextValues): string | undefined {
  const name = values.get(principalKey)?.name;
  return name === undefined ? undefined : printable(name);
}

async function openStore(config: Config, onWarning: (message: string) => void): Promise<Store> {
  switch (config.store) {
    case "memory":
      return createMemoryStore({
        // Beyond V8's limit, which others need a part of, the process ends.
        maxBytes: Math.min(config.maxStoreBytes, getHeapStatistics().heap_size_limit / 3),
        producerTtlMs: config.producerTtl,
      });
    case "lmdb":
      return openLmdbStore({
        dir: config.dataDir,
        maxBytes: config.maxStoreBytes,
        diskReserve: config.diskReserve,
        producerTtlMs: config.producerTtl,
        onWarning,
      });
  }
}
