import { maxTimerMs } from "../async/timers.ts";
import { AddressBudgets } from "./address-budgets.ts";
import { addressGroup, isLoopbackPeer } from "./address-group.ts";
import { PlaceList, take } from "./places.ts";
import type { Occupant, Place } from "./places.ts";
import { Refusals } from "./refusals.ts";
import type { ClosureReason, RefusalReason } from "./refusals.ts";

export interface AdmissionOptions {
  /** Connections at once, over TCP and QUIC together. */
  readonly maxConnections: number;
  /** The same of one address; 0 for any number. Default: none of loopback, a tenth of `maxConnections` elsewhere. */
  readonly maxConnectionsPerAddress?: number | undefined;
  /** Milliseconds that a connection may be without its first call. */
  readonly connectionIdleTimeout: number;
  /** Calls a second that the peers of one address may abandon. */
  readonly maxResetRate: number;
}

/** What the peer of one HTTP/2 connection may reset at once, and a second after that. */
export function connectionResets(maxResetRate: number): { readonly burst: number; readonly rate: number } {
  return { burst: 2 * maxResetRate, rate: maxResetRate };
}

/** How a call has ended, as far as the account of its connection goes. */
export interface CallOutcome {
  /** Its token was accepted, or it needs none. */
  readonly admitted: boolean;
  /** The peer has not waited for its end. */
  readonly abandoned: boolean;
}

/** Units that a new connection costs its address until a call on it is admitted: a handshake takes ~1 ms of a core. */
const cost = { cleartext: 1, encrypted: 5 };

/**
 * Milliseconds that a connection has for its first call before it goes ahead of those that have made one. Without them
 * newcomers of a full house would push each other out before they could say anything.
 */
const newcomerMs = 2000;

/** Milliseconds for the first call while more than half of the room is taken. */
const crowdedIdleMs = 10_000;

/** Milliseconds that a dismissed connection may take to close by itself. */
const dismissedMs = 1000;

/**
 * The account of a server's room: which connections are in, for how long each has been without a call, and which goes
 * when another one needs its place. TCP and QUIC share one.
 */
export class Admission {
  readonly refusals: Refusals;
  readonly #options: AdmissionOptions;
  readonly #budgets: AddressBudgets;
  readonly #places = new WeakMap<object, Place>();
  /** Without a call so far, the one that is in the longest first. */
  readonly #new = new PlaceList();
  /** Without a call now, the one whose last call is the longest ago first. */
  readonly #idle = new PlaceList();
  /** Those that are closing do not count; they are bounded by themselves. */
  #dismissed = 0;
  #size = 0;
  #draining = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: AdmissionOptions, refusals = new Refusals()) {
    this.#options = options;
    this.refusals = refusals;
    this.#budgets = new AddressBudgets({ rate: options.maxResetRate });
  }

  /** Connections that are in. */
  get size(): number {
    return this.#size;
  }

  /** Gives a new connection a place, or says why there is none. */
  enter(peerAddress: string, transport: keyof typeof cost, occupant: Occupant): Place | RefusalReason {
    const now = performance.now();
    const address = addressGroup(peerAddress);
    const account = this.#budgets.open(address, now);
    const refused = this.#refusal(address, account.connections, () =>
      this.#budgets.charge(account, cost[transport], now),
    );
    if (refused !== undefined) {
      this.#budgets.close(account, now);
      this.refusals.refuse(refused, address);
      return refused;
    }
    const place: Place = {
      occupant,
      account,
      charge: cost[transport],
      since: now,
      calls: 0,
      called: false,
      left: false,
      forgiven: false,
      list: undefined,
      before: undefined,
      after: undefined,
    };
    this.#size++;
    this.#new.append(place);
    this.#watch();
    return place;
  }

  /** From now on, calls on `carrier` (a socket, an HTTP/2 session, a connection of QUIC) are calls on this place. */
  carry(place: Place, carrier: object): void {
    this.#places.set(carrier, place);
  }

  callBegan(carrier: object | undefined): void {
    const place = carrier === undefined ? undefined : this.#places.get(carrier);
    if (place === undefined) return;
    if (place.calls++ === 0) take(place);
  }

  callEnded(carrier: object | undefined, { admitted, abandoned }: CallOutcome): void {
    const place = carrier === undefined ? undefined : this.#places.get(carrier);
    if (place === undefined) return;
    place.calls--;
    if (!place.left) {
      if (admitted) this.#called(place);
      if (place.calls === 0) this.#rest(place);
    }
    if (abandoned) this.#abandon(place);
  }

  /** The peer has begun something, and given it up. */
  abandoned(carrier: object): void {
    const place = this.#places.get(carrier);
    if (place !== undefined) this.#abandon(place);
  }

  /** Something other than a call has come from a peer that was admitted. */
  used(carrier: object): void {
    const place = this.#places.get(carrier);
    if (place === undefined || place.left) return;
    this.#called(place);
    if (place.calls === 0) this.#rest(place);
  }

  /** Closes a connection at once, and counts it. */
  expel(place: Place, reason: ClosureReason): void {
    if (place.left) return;
    const flood = reason === "reset_flood";
    // What a flood has in flight still counts; otherwise the peer has not given it up.
    place.forgiven = !flood;
    this.leave(place);
    this.refusals.close(reason, place.account.address);
    place.occupant.close(flood);
  }

  /** The peer has broken the rules of its protocol, which has ended the connection or is about to. */
  blame(place: Place): void {
    this.refusals.close("protocol_error", place.account.address);
    this.leave(place);
    // HTTP/2 ends so, too, if there are more resets than one connection may have.
    this.#budgets.spend(place.account.address, connectionResets(this.#options.maxResetRate).burst, performance.now());
    place.occupant.close(false);
  }

  /** The connection has closed, or goes: its place is free. */
  leave(place: Place): void {
    if (place.left) return;
    place.left = true;
    take(place);
    this.#size--;
    this.#budgets.close(place.account, performance.now());
  }

  /** Lets nobody in any more. */
  drain(): void {
    this.#draining = true;
    clearTimeout(this.#timer);
  }

  #refusal(address: string, connections: number, charge: () => boolean): RefusalReason | undefined {
    if (this.#draining) return "draining";
    if (connections > this.#maxOf(address)) return "address";
    if (this.#size < this.#options.maxConnections) return charge() ? undefined : "address_rate";
    const oldest = this.#longestWithoutCall();
    if (oldest === undefined) return "full";
    if (!charge()) return "address_rate";
    this.#dismiss(oldest, "evicted");
    return undefined;
  }

  #maxOf(address: string): number {
    const { maxConnections, maxConnectionsPerAddress } = this.#options;
    if (maxConnectionsPerAddress !== undefined) return maxConnectionsPerAddress || Infinity;
    return isLoopbackPeer(address) ? Infinity : Math.max(1, Math.floor(maxConnections / 10));
  }

  #longestWithoutCall(): Place | undefined {
    const [newcomer, idle] = [this.#new.first, this.#idle.first];
    if (newcomer === undefined || idle === undefined) return newcomer ?? idle;
    if (performance.now() - newcomer.since >= newcomerMs) return newcomer;
    return newcomer.since <= idle.since ? newcomer : idle;
  }

  #abandon(place: Place): void {
    if (place.forgiven) return;
    const left = this.#budgets.spend(place.account.address, 1, performance.now());
    if (left < 0) this.expel(place, "reset_flood");
  }

  #called(place: Place): void {
    if (place.called) return;
    place.called = true;
    this.#budgets.refund(place.account, place.charge);
  }

  #rest(place: Place): void {
    if (!place.called) {
      // `since` stays: a call that was refused gives no more time.
      this.#new.prepend(place);
      this.#watch();
      return;
    }
    place.since = performance.now();
    this.#idle.append(place);
  }

  #dismiss(place: Place, reason: ClosureReason): void {
    const { occupant, account } = place;
    place.forgiven = true;
    this.leave(place);
    this.refusals.close(reason, account.address);
    if (this.#dismissed >= Math.max(10, this.#options.maxConnections / 10)) {
      occupant.close(false);
      return;
    }
    this.#dismissed++;
    setTimeout(() => {
      this.#dismissed--;
      occupant.close(false);
    }, dismissedMs).unref();
    occupant.dismiss();
  }

  /** Looks for connections without a first call from time to time, as long as there are any. */
  #watch(): void {
    if (this.#timer !== undefined || this.#draining) return;
    const period = Math.max(20, Math.min(1000, this.#options.connectionIdleTimeout / 4));
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        const now = performance.now();
        this.#budgets.sweep(now);
        this.#closeIdle(now);
        if (this.#new.first !== undefined || this.#budgets.resting > 0) this.#watch();
      },
      Math.min(period, maxTimerMs),
    ).unref();
  }

  #closeIdle(now: number): void {
    const { maxConnections, connectionIdleTimeout } = this.#options;
    for (const place of this.#new) {
      const crowded = this.#size * 2 > maxConnections;
      const limit = crowded ? Math.min(crowdedIdleMs, connectionIdleTimeout) : connectionIdleTimeout;
      if (now - place.since >= limit) this.#dismiss(place, "idle");
    }
  }
}
