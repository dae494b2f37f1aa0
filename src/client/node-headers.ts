import type { OutgoingHttpHeaders } from "node:http2";

export function toNodeHeaders(header: Headers): OutgoingHttpHeaders {
  return Object.fromEntries(header);
}

/** Without HTTP/2's pseudo-headers. */
export function fromNodeHeaders(headers: Readonly<NodeJS.Dict<string | string[] | number>>): Headers {
  const result = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith(":") || value === undefined) continue;
    for (const one of Array.isArray(value) ? value : [value]) result.append(name, String(one));
  }
  return result;
}
