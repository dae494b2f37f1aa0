import type { IncomingMessage } from "node:http";

/** A host and perhaps a port: RFC 3986, sections 3.2.2 and 3.2.3. As native/src/message.rs has it. */
const host = /^(?:\[[0-9a-z\-._~!$&'()*+,;=:%]+\]|[0-9a-z\-._~!$&'()*+,;=%]+)(?::(\d*))?$/i;

/** What Node's HTTP/2 client makes of `https://[::1]:8443`: an IPv6 address and a port, without brackets. */
const bareIpv6 = /^[0-9a-f:.]*:[0-9a-f:.]*:\d+$/i;

const maxPort = 65_535;

/** The form of the hosts that requests name. */
export class HostForm {
  /** The last valid host: nearly all requests of a server name the same one. */
  #known: string | undefined;

  /**
   * Whether an HTTP/1.1 request says for which host it is, in the way that it must
   * (RFC 9112, section 3.2), also in a target in absolute form. That there is a
   * Host header at all is checked by Node.
   */
  hasOneHost({ httpVersion, headers, rawHeaders, url = "" }: IncomingMessage): boolean {
    if (httpVersion === "1.0" && headers.host === undefined) return this.#hasTarget(url);
    let count = 0;
    for (let i = 0; i < rawHeaders.length; i += 2) {
      const name = rawHeaders[i] ?? "";
      if (name.length === 4 && name.toLowerCase() === "host") count++;
    }
    return count === 1 && this.isHost(headers.host ?? "") && this.#hasTarget(url);
  }

  /**
   * Whether an HTTP/2 request names one host, in `:authority`, or in `host` if
   * there is no `:authority` (RFC 9113, section 8.3.1). Whether both are the same
   * is for who knows which hosts are served; nghttp2 has refused two `:authority`.
   */
  namesOneHost(rawHeaders: readonly string[]): boolean {
    let authority: string | undefined;
    let named: string | undefined;
    for (let i = 0; i < rawHeaders.length; i += 2) {
      const name = rawHeaders[i];
      if (name === ":authority") authority = rawHeaders[i + 1];
      if (name !== "host") continue;
      if (named !== undefined) return false;
      named = rawHeaders[i + 1];
    }
    return this.#isNamed(authority ?? named ?? "") && (named === undefined || this.#isNamed(named));
  }

  /** Whether the text is a host and perhaps a port, without user information. */
  isHost(text: string): boolean {
    if (text === this.#known) return true;
    const found = host.exec(text);
    if (found === null || Number(found[1] ?? "") > maxPort) return false;
    this.#known = text;
    return true;
  }

  #isNamed(text: string): boolean {
    return this.isHost(text) || bareIpv6.test(text);
  }

  /** The origin form; the asterisk form, which asks for nothing that is served; or the absolute form with a host. */
  #hasTarget(url: string): boolean {
    if (url.startsWith("/") || url === "*") return true;
    const authority = /^https?:\/\/([^/?#]*)/i.exec(url)?.[1];
    return authority !== undefined && this.isHost(authority);
  }
}
