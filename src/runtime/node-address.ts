import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";

/** What needs no second look: parsing a URL costs as much as the rest of a request's headers. */
const plainAuthority = /^[a-z0-9.-]+(:\d{1,5})?$/;
const plainPath = /^\/[A-Za-z0-9._/-]*$/;

/** The absolute URL of a request. */
export function urlOf(path: string, scheme: string, authority: string): string {
  if (plainAuthority.test(authority) && plainPath.test(path) && !path.includes("..")) {
    return `${scheme}://${authority}${path}`;
  }
  try {
    return new URL(path, `${scheme}://${authority}`).toString();
  } catch {
    // A Host header can be anything; the path is what the call needs.
    return new URL(path, `${scheme}://localhost`).toString();
  }
}

/** The target of a request. */
export interface Target {
  /** With the query. */
  readonly path: string;
  /** Of a target in absolute form. */
  readonly authority: string | undefined;
}

/**
 * Reads a target of HTTP/1.1: a path, or the absolute form, as it is sent to a proxy. A server must take that too, and
 * its host instead of the one in `Host` (RFC 9112, section 3.2.2).
 */
export function targetOf(target: string): Target {
  if (target.startsWith("/")) return { path: target, authority: undefined };
  const [, authority, path] = /^https?:\/\/([^/?#]*)([^#]*)/i.exec(target) ?? [];
  if (authority === undefined || path === undefined) return { path: target, authority: undefined };
  return { path: path.startsWith("/") ? path : `/${path}`, authority };
}

export function pathOf(target: string): string {
  const query = target.indexOf("?");
  return query < 0 ? target : target.slice(0, query);
}

export function schemeOf(socket: Socket): string {
  return socket instanceof TLSSocket ? "https" : "http";
}

/** Address and port, as in a URL, so that an IPv6 address and its port can be told apart. */
export function peerOf({ remoteAddress, remotePort }: Pick<Socket, "remoteAddress" | "remotePort">): string {
  const host = remoteAddress?.includes(":") === true ? `[${remoteAddress}]` : (remoteAddress ?? "?");
  return `${host}:${remotePort ?? "?"}`;
}
