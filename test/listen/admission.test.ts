import { describe, expect, it } from "vitest";
import { addressGroup, hostOf, isLoopbackPeer } from "../../src/listen/address-group.ts";
import { Admission } from "../../src/listen/admission.ts";
import type { AdmissionOptions } from "../../src/listen/admission.ts";
import type { Place } from "../../src/listen/places.ts";
import { Refusals } from "../../src/listen/refusals.ts";
import type { RefusalSummary } from "../../src/listen/refusals.ts";
import { until } from "../support/deadline.ts";

describe("addressGroup", () => {
  for (const [address, group] of [
    ["192.0.2.7", "192.0.2.7"],
    ["::ffff:192.0.2.7", "192.0.2.7"],
    ["::FFFF:c000:207", "192.0.2.7"],
    ["0:0:0:0:0:ffff:192.0.2.7", "192.0.2.7"],
    ["::ffff:127.0.0.1", "127.0.0.1"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:db8:1:2::1", "2001:db8:1:2::/64"],
    ["2001:db8::1", "2001:db8:0:0::/64"],
    ["2001:0db8:0001:0002::", "2001:db8:1:2::/64"],
    ["fe80::1%eth0", "fe80:0:0:0::/64"],
    ["64:ff9b::192.0.2.7", "64:ff9b:0:0::/64"],
    ["::1", "::1"],
  ] as const) {
    it(`of ${address} is ${group}`, () => {
      expect(addressGroup(address)).toBe(group);
      expect(isLoopbackPeer(addressGroup(address))).toBe(/^(127\.|::1$)/.test(group));
    });
  }

  it("goes by the host of a peer", () => {
    expect(hostOf("192.0.2.7:443")).toBe("192.0.2.7");
    expect(hostOf("[2001:db8::1]:443")).toBe("2001:db8::1");
  });
});

const options: AdmissionOptions = {
  maxConnections: 1000,
  connectionIdleTimeout: 3_600_000,
  maxResetRate: 1_000_000,
};

/** An account of room whose connections only note how they end. */
function useRoom(given: Partial<AdmissionOptions> = {}) {
  const admission = new Admission({ ...options, ...given });
  const ended: string[] = [];
  const enter = (name: string, address = "127.0.0.1"): Place | string => {
    const place = admission.enter(address, "cleartext", {
      dismiss: () => ended.push(name),
      close: () => ended.push(`${name}!`),
    });
    if (typeof place !== "string") admission.carry(place, place);
    return place;
  };
  return { admission, enter, ended };
}

function placeOf(entered: Place | string): Place {
  if (typeof entered === "string") throw new Error(entered);
  return entered;
}

describe("the account of room", () => {
  it("gives a tenth to each address beyond loopback, at least one place, and counts an IPv6 network once", () => {
    const { enter } = useRoom({ maxConnections: 30 });
    for (let i = 0; i < 3; i++) expect(typeof enter("a", "192.0.2.1")).toBe("object");
    expect(enter("a", "192.0.2.1")).toBe("address");
    expect(enter("a", "::ffff:192.0.2.1")).toBe("address");
    for (let i = 0; i < 3; i++) expect(typeof enter("b", `2001:db8::${i}`)).toBe("object");
    expect(enter("b", "2001:db8::9")).toBe("address");
    expect(typeof enter("c", "2001:db8:0:1::9")).toBe("object");
    for (let i = 0; i < 20; i++) expect(typeof enter("d", "::1")).toBe("object");
    const small = useRoom({ maxConnections: 5 });
    expect(typeof small.enter("a", "192.0.2.1")).toBe("object");
    expect(small.enter("a", "192.0.2.1")).toBe("address");
    const open = useRoom({ maxConnections: 5, maxConnectionsPerAddress: 0 });
    for (let i = 0; i < 9; i++) expect(typeof open.enter("a", "192.0.2.1")).toBe("object");
  });

  it("takes back what a refused newcomer was counted as", () => {
    const { admission, enter } = useRoom({ maxConnections: 2, maxConnectionsPerAddress: 2 });
    const places = [placeOf(enter("a")), placeOf(enter("b"))];
    for (const place of places) admission.callBegan(place);
    for (let i = 0; i < 5; i++) expect(enter("c", "192.0.2.1")).toBe("full");
    for (let i = 0; i < 5; i++) expect(enter("c")).toBe("address");
    admission.callEnded(places[0], { admitted: true, abandoned: false });
    admission.callBegan(placeOf(enter("d", "192.0.2.1")));
    expect(enter("e", "192.0.2.1")).toBe("full");
    expect(admission.size).toBe(2);
  });

  it("closes dismissed connections at once when there are many of them", () => {
    const { enter, ended } = useRoom({ maxConnections: 1 });
    for (let i = 0; i <= 20; i++) enter(String(i));
    expect(ended.slice(0, 10)).toEqual(["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    expect(ended.slice(10)).toEqual(["10!", "11!", "12!", "13!", "14!", "15!", "16!", "17!", "18!", "19!"]);
  });

  it("finds the connection that has been without a call the longest, as a slow search does", () => {
    const { admission, enter } = useRoom({ maxConnections: 200 });
    const places = Array.from({ length: 200 }, (_, i) => placeOf(enter(String(i))));
    let state = 7;
    const random = (n: number): number => (state = (state * 48_271) % 2_147_483_647) % n;
    const busy = new Set<Place>();
    for (let i = 0; i < 20_000; i++) {
      const place = places[random(places.length)] as Place;
      if (busy.delete(place)) {
        admission.callEnded(place, { admitted: random(5) > 0, abandoned: false });
      } else {
        admission.callBegan(place);
        busy.add(place);
      }
    }
    const waiting = places.filter((place) => !busy.has(place));
    expect(waiting.length).toBeGreaterThan(20);
    // All are younger than the time for which newcomers come before the others: what counts is the time alone.
    const expected = Math.min(...waiting.map(({ since }) => since));
    enter("new");
    const left = places.filter((place) => place.left);
    expect(left.map(({ since }) => since)).toEqual([expected]);
    for (const place of busy) expect(place.left).toBe(false);
  });
});

describe("refusals", () => {
  it("are summed up, with the addresses that have most of them, in bounded memory", async () => {
    const summaries: RefusalSummary[] = [];
    const refusals = new Refusals((summary) => summaries.push(summary));
    for (let i = 0; i < 10_000; i++) {
      refusals.refuse("full", `192.0.2.${i % 200}`);
      if (i % 4 === 0) refusals.close("idle", "198.51.100.1");
    }
    await until(5000, "the summary", () => summaries.length === 1);
    expect(summaries[0]?.refused).toEqual({ full: 10_000 });
    expect(summaries[0]?.closed).toEqual({ idle: 2500 });
    expect(summaries[0]?.addresses).toHaveLength(5);
    expect(summaries[0]?.addresses[0]?.address).toBe("198.51.100.1");
    // The next one is due in a minute; at the end nothing is lost.
    refusals.refuse("address", "192.0.2.1");
    refusals.end();
    expect(summaries[1]?.refused).toEqual({ address: 1 });
    refusals.end();
    expect(summaries).toHaveLength(2);
  });
});
