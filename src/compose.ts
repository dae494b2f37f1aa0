import { Code, ConnectError } from "@connectrpc/connect";
import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import { createValidateInterceptor } from "@connectrpc/validate";
import { DataService } from "../gen/data/v1/data_pb.ts";
import { GreetService } from "../gen/greet/v1/greet_pb.ts";
import { Health } from "../gen/grpc/health/v1/health_pb.ts";
import { again } from "./async/again.ts";
import { settleAll } from "./async/settle-all.ts";
import { sleep } from "./async/signals.ts";
import { AdmittedCalls } from "./auth/admitted-calls.ts";
import { createAuthInterceptor } from "./auth/auth-interceptor.ts";
import { endAtExpiry } from "./auth/expiry.ts";
import { createRequestGate, tokenOf } from "./auth/gate.ts";
import { principalKey } from "./auth/principal.ts";
import { needOf, requireScope } from "./auth/scopes.ts";
import { createVerifier } from "./auth/verifier.ts";
import { isLoopback, sampleToken } from "./config.ts";
import type { Config } from "./config.ts";
import { isPortInUse } from "./errors.ts";
import type { Http3Listener } from "./http3/listener.ts";
import type { WebTransportSession } from "./http3/webtransport-session.ts";
import { listenAdmin } from "./listen/admin.ts";
import { listen } from "./listen/listen.ts";
import type { Listener } from "./listen/listen.ts";
import { readTlsFiles } from "./listen/tls-files.ts";
import { createLogger, redactHeaders } from "./observe/log.ts";
import type { Logger } from "./observe/log.ts";
import { addHttp3Metrics } from "./observe/http3-metrics.ts";
import { createMetrics } from "./observe/metrics.ts";
import { callKey } from "./runtime/call.ts";
import { withCors } from "./runtime/cors.ts";
import { createRuntime, messageElements } from "./runtime/handler.ts";
import { nodeHandlers } from "./runtime/node-handlers.ts";
import type { StreamRouter } from "./runtime/stream-routes.ts";
import { createDataService } from "./services/data.ts";
import { createErrorInterceptor, toConnectError } from "./services/error-codes.ts";
import { createGreetService, prepareGreeting } from "./services/greet.ts";
import { HealthState, createHealthService } from "./services/health.ts";
import { registerReflection } from "./services/reflection.ts";
import { createRequestValidator } from "./services/request-validator.ts";
import { openLmdbStore } from "./store/lmdb.ts";
import { createMemoryStore } from "./store/memory.ts";
import type { Store } from "./store/store.ts";

export interface StartOptions {
  /** Where to log. The default writes JSON lines to standard error. */
  readonly log?: Logger;
  /** Services of your own, behind the same port, gate, limits and logs. */
  readonly routes?: (router: ConnectRouter) => void;
  /** Streams that your handlers take over, over HTTP/2 and HTTP/3, behind the same. */
  readonly streams?: (router: StreamRouter) => void;
  /** Called for each session of WebTransport, once its token has been found good: for its datagrams. */
  readonly onWebTransportSession?: (session: WebTransportSession) => void;
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
   * Reads the tokens file, the JWKS and the TLS certificate with its key again.
   * Fails if one of them is wrong, which then stays as it was.
   */
  reload(): Promise<void>;
  /**
   * Drains, then closes: health turns NOT_SERVING, new calls are refused with
   * UNAVAILABLE, following reads end with it, running calls may finish within
   * `drainTimeout`. Calling it again waits for the same end.
   */
  close(): Promise<void>;
}

/** How long calls that are ended at the close may take to tell their clients, in milliseconds. */
const farewellMs = 1000;

/**
 * Starts a server.
 *
 * Fails with a DomainError: "config" for wrong options or a port in use,
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
  const store = await openStore(config);
  cleanups.push(() => store.close());
  const admitted = new AdmittedCalls();
  const onUnexpected = (error: unknown): void => {
    log.error({ err: error }, "a call failed unexpectedly");
  };
  const verifier = await createVerifier({
    tokensFile: config.tokensFile,
    jwks: config.jwks,
    jwtIssuer: config.jwtIssuer,
    jwtAudience: config.jwtAudience,
    sampleToken: isLoopback(config.host) ? sampleToken : undefined,
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
  const requestGate = async (context: HandlerContext): Promise<void> => {
    if (log.isLevelEnabled("debug")) {
      log.debug({ method: context.method.name, headers: redactHeaders(context.requestHeader) }, "request");
    }
    if (context.service.typeName === GreetService.typeName) prepareGreeting(context);
    // Health goes on answering, so that an orchestrator sees NOT_SERVING instead of a failure.
    if (draining.signal.aborted && context.service.typeName !== Health.typeName) throw goingAway();
    try {
      await gate(context);
    } catch (error) {
      throw toConnectError(error, onUnexpected);
    }
  };

  const runtime = createRuntime({
    ...config,
    maxMessageElements: Math.max(messageElements(config.maxMessageBytes), config.maxBatchRecords * 16),
    routes(router) {
      router.service(GreetService, createGreetService());
      router.service(DataService, createDataService({ store, limits: config, drainSignal: draining.signal }));
      router.service(Health, createHealthService(health, draining.signal));
      options.routes?.(router);
      registerReflection(router);
    },
    interceptors: [
      createErrorInterceptor({ onUnexpected }),
      createAuthInterceptor(),
      createValidateInterceptor({ validator: createRequestValidator() }),
    ],
    requestGate,
    streams: ({ onStream }) => {
      options.streams?.({
        onStream(path, handler, stream = {}) {
          // A wrong scope is told now, not to each client.
          if (stream.scope !== undefined) needOf(stream.scope);
          onStream(path, handler, stream);
        },
      });
    },
    async streamGate({ path, scope }, requestHeader, values) {
      log.debug({ stream: path, headers: redactHeaders(requestHeader) }, "request");
      if (draining.signal.aborted) throw goingAway();
      await gate({ requestHeader, values });
      if (scope !== undefined) requireScope(values.get(principalKey), needOf(scope));
    },
    toConnectError: (error) => toConnectError(error, onUnexpected),
    onCallEnd: (record) => {
      metrics.observe(record);
      log.info(
        {
          method: record.procedure,
          shape: record.shape,
          protocol: record.protocol,
          http: record.httpVersion,
          peer: record.peer,
          token: record.values.get(principalKey)?.name,
          code: record.code,
          messagesIn: record.messagesIn,
          messagesOut: record.messagesOut,
          bytesIn: record.bytesIn,
          bytesOut: record.bytesOut,
          durationMs: record.durationMs,
        },
        "call",
      );
    },
    onLateHeaders: (procedure, names) => {
      log.warn(
        { method: procedure, headers: names },
        "headers set after they had left are lost: call holdHeaders() before the handler's first wait",
      );
    },
    onError: onUnexpected,
  });
  let http3: Http3Listener | undefined;
  const metrics = createMetrics({
    activeCalls: () => runtime.activeCalls,
    connections: () => listener.connections + (http3?.connections ?? 0),
    memory: runtime.memory,
  });
  const serve = withCors(runtime.serve, {
    origins: config.corsOrigins,
    requestHeaders: ["Authorization", "Acme-Token"],
    responseHeaders: ["Greet-Version", "Greet-Count"],
  });
  const onAged = (connection: object): void => {
    runtime.end(
      new ConnectError("the connection has reached --max-connection-age: connect again, and resume", Code.Unavailable),
      connection,
    );
  };
  const openListener = async (): Promise<Listener> => {
    const opened = await listen(
      nodeHandlers((exchange) => {
        if (http3 !== undefined) exchange.addHeader("alt-svc", `h3=":${http3.port}"; ma=86400`);
        serve(exchange);
      }),
      { ...config, tls, onAged },
    );
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
    const webtransport = {
      // Origins are judged when a session is opened: CORS is for what fetch asks.
      serve: runtime.serve,
      path: config.webtransportPath,
      origins: config.corsOrigins,
      async admit(header: Headers): Promise<void> {
        try {
          await verifier.verify(tokenOf(header));
        } catch (error) {
          throw toConnectError(error, onUnexpected);
        }
      },
      ...(options.onWebTransportSession === undefined ? {} : { onSession: options.onWebTransportSession }),
    };
    return listenHttp3(serve, {
      ...config,
      port: config.http3Port ?? port,
      tls,
      onAged,
      ...(config.webtransportPath === "none" ? {} : { webtransport }),
    });
  };
  // A number that the system has chosen for TCP may be in use with UDP.
  const attempts = config.port === 0 && config.http3Port === undefined ? 20 : 1;
  const listener = await again(attempts, isPortInUse, openListener);
  cleanups.push(() => listener.close());
  const quic = http3;
  if (quic !== undefined) addHttp3Metrics(metrics.registry, () => quic.counters);
  cleanups.push(() => http3?.close());
  const admin =
    config.adminPort === undefined
      ? undefined
      : await listenAdmin({
          host: config.adminHost,
          port: config.adminPort,
          metrics: async () => ({ contentType: metrics.registry.contentType, text: await metrics.registry.metrics() }),
        });
  const sweeper = setInterval(() => {
    store.sweep(Date.now()).catch((error: unknown) => {
      log.error({ err: error }, "retention could not be applied");
    });
  }, config.sweepInterval);
  sweeper.unref();

  const close = async (): Promise<void> => {
    log.info({ activeCalls: runtime.activeCalls }, "draining");
    health.setAllServing(false);
    draining.abort(goingAway());
    listener.drain();
    http3?.drain();
    await before(config.drainTimeout, runtime.idle());
    runtime.end(goingAway());
    await before(farewellMs, runtime.idle());
    clearInterval(sweeper);
    await Promise.all([listener.close(), http3?.close()]);
    await admin?.close();
    verifier.close();
    await store.close();
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
    reload,
    close: () => (closing ??= close()),
  };
}

function goingAway(): ConnectError {
  return new ConnectError("the server is shutting down: connect again, and resume", Code.Unavailable);
}

/** Waits for `work`, but not for longer than `ms`. */
async function before(ms: number, work: Promise<void>): Promise<void> {
  const timer = new AbortController();
  await Promise.race([work, sleep(ms, timer.signal).catch(() => undefined)]);
  timer.abort();
}

async function openStore(config: Config): Promise<Store> {
  switch (config.store) {
    case "memory":
      return createMemoryStore({ producerTtlMs: config.producerTtl });
    case "lmdb":
      return openLmdbStore({
        dir: config.dataDir,
        maxBytes: config.maxStoreBytes,
        producerTtlMs: config.producerTtl,
      });
  }
}
