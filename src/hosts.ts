/** Hosts as requests name them, in `Host` and `:authority` (RFC 9110, section 7.2). */

/** An IPv6 address without its brackets. */
const bareAddress = /^[0-9a-f.]*:[0-9a-f.]*:[0-9a-f:.]*$/i;

/** A name or an IPv4 address, or an IPv6 address in brackets; then perhaps a port (RFC 3986, section 3.2). */
const authorityForm = /^(\[[0-9a-f:.]{2,45}\]|[a-z0-9_](?:[a-z0-9._-]{0,252}[a-z0-9_])?\.?)(:\d{0,5})?$/i;

/**
 * The host of an authority, in one form for all its spellings: lower case, without port, without the final dot of a
 * full name, an IPv6 address shortened and in brackets. Undefined for what is none, such as one with user information.
 */
export function hostOf(authority: string): string | undefined {
  const host = authorityForm.exec(authority)?.[1]?.toLowerCase();
  if (host === undefined) return undefined;
  if (host.startsWith("[")) return URL.parse(`http://${host}`)?.hostname;
  return host.endsWith(".") ? host.slice(0, -1) : host;
}

/**
 * The hosts that an authority may mean. node:http2's clients leave the brackets of an IPv6 address away (seen with Node
 * 24.21): then its last group may be the port. No name has a colon, so that no name server has a say in these.
 */
function hostsOf(authority: string): (string | undefined)[] {
  if (!bareAddress.test(authority)) return [hostOf(authority)];
  return [hostOf(`[${authority}]`), hostOf(`[${authority.replace(/:\d{1,5}$/, "")}]`)];
}

/** The host that an option lists: as `hostOf`, but without a port, and an IPv6 address may lack its brackets. */
export function listedHost(text: string): string | undefined {
  const match = authorityForm.exec(bareAddress.test(text) ? `[${text}]` : text);
  return match?.[1] === undefined || match[2] !== undefined ? undefined : hostOf(match[1]);
}

/** Whether a host in the form of `hostOf` stands for this machine wherever it is resolved. */
export function isLoopbackHost(host: string): boolean {
  return (
    host === "localhost" ||
    host === "[::1]" ||
    /^127(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}$/.test(host) ||
    // 127.0.0.0/8 as an IPv4-mapped address: RFC 4291, section 2.5.5.2.
    /^\[::ffff:7f[0-9a-f]{2}:[0-9a-f]{1,4}\]$/.test(host)
  );
}

/** Whether a request for this authority is served. */
export type HostCheck = (authority: string | undefined) => boolean;

/**
 * Admits loopback hosts, which no name server can point elsewhere, and those that are listed.
 *
 * Against DNS rebinding: a page at a name that its owner resolves to 127.0.0.1 is of the same origin as this server, so
 * that CORS does not keep it out. Its requests carry that name.
 */
export function createHostCheck(allowed: readonly string[]): HostCheck {
  const listed = new Set(allowed.map(listedHost));
  /** Most requests name the same host as the one before. */
  let last: string | undefined;
  return (authority) => {
    if (authority === undefined) return false;
    if (authority === last) return true;
    const served = (host: string | undefined): boolean =>
      host !== undefined && (isLoopbackHost(host) || listed.has(host));
    if (!hostsOf(authority).some(served)) return false;
    last = authority;
    return true;
  };
}
