import type { AddressAccount } from "./address-budgets.ts";

/** A connection, as far as the account of room can end it. */
export interface Occupant {
  /** Asks the peer to go, in the words of its protocol, and closes once nothing is in flight. */
  dismiss(): void;
  /** Closes at once; `abusive` if the peer is to be told that it asks too much. */
  close(abusive: boolean): void;
}

/** The place that a connection takes. */
export interface Place {
  readonly occupant: Occupant;
  readonly account: AddressAccount;
  /** Units that its address gets back with the first call that is served. */
  charge: number;
  /** Since when it has been without a call, as `performance.now()` says it. */
  since: number;
  /** Calls in flight. */
  calls: number;
  /** A call on it was admitted. */
  called: boolean;
  /** It is given up, though its connection may still be closing. */
  left: boolean;
  /** The server has given it up for a reason of its own: what ends with it is not the peer's doing. */
  forgiven: boolean;
  list: PlaceList | undefined;
  before: Place | undefined;
  after: Place | undefined;
}

/**
 * Places in an order, linked through themselves. Each change takes the same time and leaves no garbage: a Map that is
 * written with every call would make itself anew every few thousand of them.
 */
export class PlaceList {
  #first: Place | undefined;
  #last: Place | undefined;

  get first(): Place | undefined {
    return this.#first;
  }

  append(place: Place): void {
    take(place);
    place.list = this;
    place.before = this.#last;
    if (this.#last === undefined) this.#first = place;
    else this.#last.after = place;
    this.#last = place;
  }

  prepend(place: Place): void {
    take(place);
    place.list = this;
    place.after = this.#first;
    if (this.#first === undefined) this.#last = place;
    else this.#first.before = place;
    this.#first = place;
  }

  remove(place: Place): void {
    if (place.before === undefined) this.#first = place.after;
    else place.before.after = place.after;
    if (place.after === undefined) this.#last = place.before;
    else place.after.before = place.before;
    place.list = undefined;
    place.before = undefined;
    place.after = undefined;
  }

  /** The place that it is at may be taken out meanwhile, others must not. */
  *[Symbol.iterator](): Generator<Place> {
    let place = this.#first;
    while (place !== undefined) {
      const { after } = place;
      yield place;
      place = after;
    }
  }
}

/** Takes a place out of the list that it is in, if it is in one. */
export function take(place: Place): void {
  place.list?.remove(place);
}
