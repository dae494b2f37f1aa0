import { Code, ConnectError } from "@connectrpc/connect";
import { request as requestClear } from "node:http";
import type { Agent, ClientRequest, IncomingMessage } from "node:http";
import { request as requestTls } from "node:https";
import type { Socket } from "node:net";
import { writePieces } from "../wire/node-platform.ts";
import type { ClientExchange, OpenExchange, ResponseReceiver } from "./client-exchange.ts";
import { errorOfNode, isLateWrite } from "./node-errors.ts";
import { fromNodeHeaders, toNodeHeaders } from "../wire/node-headers.ts";

/** Connections over HTTP/1.1, which the agent keeps. */
export function createHttp1Exchanges(agent: Agent): OpenExchange {
  return async ({ method, url, header }, receiver) => {
    const request = (url.startsWith("https:") ? requestTls : requestClear)(url, {
      agent,
      method,
      headers: toNodeHeaders(header),
    });
    const exchange = new Http1Exchange(request, receiver);
    // Otherwise they wait for the first byte of the body.
    request.flushHeaders();
    await connected(request);
    return exchange;
  };
}

/** Waits for the connection, so that no request is asked for that could not be sent. */
function connected(request: ClientRequest): Promise<void> {
  return new Promise((resolve, reject) => {
    request.once("error", (error) => {
      reject(errorOfNode(error));
    });
    request.once("socket", (socket: Socket) => {
      if (socket.readyState === "open") resolve();
      else socket.once("connect", resolve);
    });
  });
}

class Http1Exchange implements ClientExchange {
  readonly #request: ClientRequest;
  #response: IncomingMessage | undefined;

  constructor(request: ClientRequest, receiver: ResponseReceiver) {
    this.#request = request;
    let over = false;
    const fail = (error: ConnectError): void => {
      if (over) return;
      over = true;
      receiver.onError(error);
    };
    request.on("response", (response) => {
      this.#response = response;
      receiver.onHead(response.statusCode ?? 0, fromNodeHeaders(response.headers));
      response.on("data", (chunk: Uint8Array) => {
        if (!over) receiver.onChunk(chunk);
      });
      response.on("end", () => {
        if (over || !response.complete) return;
        over = true;
        receiver.onEnd(fromNodeHeaders(response.trailers));
        // The server did not wait for the rest of the request: the connection cannot be used for another.
        if (!request.writableEnded) request.destroy();
      });
      response.on("error", (error: Error) => {
        fail(errorOfNode(error));
      });
    });
    request.on("drain", () => {
      receiver.onDrain();
    });
    request.on("error", (error: Error) => {
      if (!isLateWrite(error)) fail(errorOfNode(error));
    });
    request.on("close", () => {
      fail(new ConnectError("the connection ended before the response was complete", Code.Unavailable));
    });
  }

  write(pieces: readonly Uint8Array[], sent: () => void): boolean {
    const request = this.#request;
    // The server may have answered without waiting for the rest.
    if (request.destroyed || request.writableEnded) return true;
    return writePieces(request, pieces, sent);
  }

  end(): void {
    if (!this.#request.destroyed && !this.#request.writableEnded) this.#request.end();
  }

  reset(): void {
    this.#request.destroy();
  }

  stopReceiving(): void {
    this.reset();
  }

  pause(): void {
    this.#response?.pause();
  }

  resume(): void {
    this.#response?.resume();
  }
}
