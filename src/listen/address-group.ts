/**
 * What of a peer's address limits go by: an IPv4 address as a whole, also when it is written as an IPv6 one
 * (RFC 4291, section 2.5.5.2), and of an IPv6 address the first 64 bits, because a host is given all that follow
 * (RFC 4291, section 2.5.4).
 */
export function addressGroup(address: string): string {
  if (!address.includes(":")) return address;
  const groups = groupsOf(address);
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
    const [high = 0, low = 0] = groups.slice(6);
    return [high >> 8, high & 0xff, low >> 8, low & 0xff].join(".");
  }
  const network = groups.slice(0, 4);
  // The first 64 bits are zero only for addresses of this machine.
  if (network.every((group) => group === 0)) return address;
  return `${network.map((group) => group.toString(16)).join(":")}::/64`;
}

/** Whether a peer's address, or the group that it belongs to, is of this machine. */
export function isLoopbackPeer(group: string): boolean {
  return group === "::1" || group.startsWith("127.");
}

/** The host of `192.0.2.1:443` or `[2001:db8::1]:443`. */
export function hostOf(peer: string): string {
  return peer.slice(0, peer.lastIndexOf(":")).replace(/^\[(.*)\]$/, "$1");
}

/** The eight groups of 16 bits of an IPv6 address, without its zone. */
function groupsOf(address: string): number[] {
  const [bare = ""] = address.split("%", 1);
  const [left = "", right] = bare.split("::", 2);
  const before = parse(left);
  if (right === undefined) return before;
  const after = parse(right);
  return [...before, ...Array<number>(Math.max(0, 8 - before.length - after.length)).fill(0), ...after];
}

function parse(part: string): number[] {
  if (part === "") return [];
  return part.split(":").flatMap((group) => {
    if (!group.includes(".")) return [Number.parseInt(group, 16)];
    const [a = 0, b = 0, c = 0, d = 0] = group.split(".").map(Number);
    return [a * 256 + b, c * 256 + d];
  });
}
