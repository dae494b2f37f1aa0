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
