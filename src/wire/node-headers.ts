import type { OutgoingHttpHeaders } from "node:http2";
import { setOwn } from "../own-property.ts";

export function toNodeHeaders(header: Headers): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {};
  for (const [name, value] of header) {
    setOwn<OutgoingHttpHeaders[string]>(headers, name, name === "set-cookie" ? header.getSetCookie() : value);
  }
  return headers;
}

/** Without HTTP/2's pseudo-headers. */
export function fromNodeHeaders(headers: Readonly<NodeJS.Dict<string | string[] | number>>): Headers {
  const result = new Headers();
  for (const name in headers) {
    const value = headers[name];
    if (value === undefined || name.startsWith(":")) continue;
    if (Array.isArray(value)) {
      for (const one of value) result.append(name, one);
    } else {
      result.append(name, String(value));
    }
  }
  return result;
}
