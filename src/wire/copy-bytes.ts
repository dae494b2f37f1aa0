/** Copies bytes into memory of their own. `slice` does not: a Buffer's gives another view of the same memory. */
export function copyBytes(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes);
}
