import type { IncomingMessage } from "node:http";

/** A host and perhaps a port: RFC 3986, sections 3.2.2 and 3.2.3. As native/src/message.rs has it. */
const host = /^(?:\[[0-9a-z\-._~!$&'()*+,;=:%]+\]|[0-9a-z\-._~!$&'()*+,;=%]+)(?::(\d*))?$/i;

/** What Node's HTTP/2 client makes of `https://[::1]:8443`: an IPv6 address and a port, without brackets. */
const bareIpv6 = /^[0-9a-f:.]*:[0-9a-f:.]*:\d+$/i;

const maxPort = 65_535;

/** The last host that was one: nearly all requests of a server name the same. */
let known = "";

/** Whether the text is a host and perhaps a port, without user information. */
export function isHost(text: string): boolean {
  if (text === known) return true;
  const found = host.exec(text);
  if (found === null || Number(found[1] ?? "") > maxPort) return false;
  known = text;
  return true;
}

/**
 * Whether an HTTP/1.1 request says for which host it is, in the way that it must
 * (RFC 9112, section 3.2). An absolute target takes the place of the Host header
 * (section 3.2.2): afterwards the request has the target's host and a target in
 * origin form. That there is a Host header at all is checked by Node.
 */
export function settleHost(req: IncomingMessage): boolean {
  if (req.httpVersion === "1.0" && req.headers.host === undefined) return settleTarget(req);
  let count = 0;
  for (let i = 0; i < req.rawHeaders.length; i += 2) {
    const name = req.rawHeaders[i] ?? "";
    if (name.length === 4 && name.toLowerCase() === "host") count++;
  }
  return count === 1 && isHost(req.headers.host ?? "") && settleTarget(req);
}

function settleTarget(req: IncomingMessage): boolean {
  const target = req.url ?? "";
  // The origin form; and the asterisk form, which asks for nothing that is served.
  if (target.startsWith("/") || target === "*") return true;
  const absolute = /^https?:\/\/([^/?#]*)([^#]*)$/i.exec(target);
  const [, authority = "", rest = ""] = absolute ?? [];
  if (absolute === null || !isHost(authority)) return false;
  req.headers.host = authority;
  req.url = rest.startsWith("/") ? rest : `/${rest}`;
  return true;
}

/**
 * Whether an HTTP/2 request names one host, in `:authority`, or in `host` if
 * there is no `:authority`; in both, they must be the same (RFC 9113, section
 * 8.3.1). nghttp2 has refused two `:authority` by then.
 */
export function namesHost(rawHeaders: readonly string[]): boolean {
  let authority: string | undefined;
  let named: string | undefined;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i];
    if (name === ":authority") authority = rawHeaders[i + 1];
    if (name !== "host") continue;
    if (named !== undefined) return false;
    named = rawHeaders[i + 1];
  }
  if (authority !== undefined && named !== undefined && authority !== named) return false;
  const text = authority ?? named ?? "";
  return isHost(text) || bareIpv6.test(text);
}
