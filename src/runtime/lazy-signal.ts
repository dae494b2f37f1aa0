const source = Symbol("source of the signal");

/** What has a signal, perhaps one that is made when it is asked for. */
interface SignalSource {
  readonly signal: AbortSignal;
}

const lazily: PropertyDescriptor & ThisType<{ readonly [source]: SignalSource }> = {
  enumerable: true,
  configurable: true,
  get() {
    return this[source].signal;
  },
};

/**
 * Adds the signal of `from`, to be asked for when somebody asks the target. It is a property of the target's own, so
 * that copies have it too, but all targets share one getter: objects with a getter each have hidden classes of their
 * own, which V8 keeps, with all that the getters refer to, until the next full collection.
 */
export function withSignal<T extends object>(target: T, from: SignalSource): T & SignalSource {
  Object.defineProperty(target, source, { value: from });
  return Object.defineProperty(target, "signal", lazily) as T & SignalSource;
}

/** Whether the signal of the target is still that of `from`, which `withSignal` has given it. */
export function hasSignalOf(target: object, from: SignalSource): boolean {
  return (target as { readonly [source]?: unknown })[source] === from;
}
