/**
 * Sets a property whose name comes from outside. A plain assignment to `__proto__` sets the prototype of the object, or
 * does nothing.
 */
export function setOwn<T>(object: Record<string, T>, name: string, value: T): void {
  if (name !== "__proto__") object[name] = value;
  else Object.defineProperty(object, name, { value, writable: true, enumerable: true, configurable: true });
}
