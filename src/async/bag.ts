/** Where an item stands in its bag, for the bag. */
export interface Placed {
  place: number;
}

/**
 * Items that come and go all the time, in no order.
 *
 * A Map or a Set would do, but makes itself anew every few changes, and V8 lets
 * what was in the old tables live until the next full collection: half of all
 * calls, with all that they refer to.
 */
export class Bag<T extends Placed> {
  readonly #items: T[] = [];

  get size(): number {
    return this.#items.length;
  }

  add(item: T): void {
    item.place = this.#items.push(item) - 1;
  }

  /** Nothing, if the item is not in the bag. */
  delete(item: T): void {
    if (this.#items[item.place] !== item) return;
    const last = this.#items.pop();
    if (last === undefined || last === item) return;
    this.#items[item.place] = last;
    last.place = item.place;
  }

  /** A copy, so that items may go meanwhile. */
  toArray(): T[] {
    return [...this.#items];
  }
}
