/** Headers and trailers as the native engine has them: names and values by turns. */

/** What HTTP/3 has other means for (RFC 9114, section 4.2). */
const ofConnections = new Set(["connection", "host", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"]);

export function toFields(header: Headers): string[] {
  const fields: string[] = [];
  for (const [name, value] of header) {
    if (!ofConnections.has(name)) fields.push(name, value);
  }
  return fields;
}

export function fromFields(fields: readonly string[], from = 0): Headers {
  const header = new Headers();
  for (let i = from; i + 1 < fields.length; i += 2) header.append(fields[i] ?? "", fields[i + 1] ?? "");
  return header;
}
