import { randomBytes } from "node:crypto";

/** Bytes of a uid: enough that no two streams get the same one by chance, also in stores that were copied. */
const uidBytes = 9;

/** A uid for a new stream: 12 characters. */
export function newUid(): string {
  return randomBytes(uidBytes).toString("base64url");
}
