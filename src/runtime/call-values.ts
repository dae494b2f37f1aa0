import type { ContextKey, ContextValues } from "@connectrpc/connect";

/** Context values as Connect's `createContextValues` makes them, which makes three functions for each call too. */
export class CallValues implements ContextValues {
  [id: symbol]: unknown;

  get<T>(key: ContextKey<T>): T {
    return key.id in this ? (this[key.id] as T) : key.defaultValue;
  }

  set<T>(key: ContextKey<T>, value: T): this {
    this[key.id] = value;
    return this;
  }

  delete(key: ContextKey<unknown>): this {
    // eslint-disable-next-line @typescript-eslint/no-dynamic-delete -- the keys are symbols of their own
    delete this[key.id];
    return this;
  }
}
