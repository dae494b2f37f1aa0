/** Counts the memory that one call holds against a budget that all calls share. */
export interface MemoryAccount {
  /** Counts `bytes` more. Returns false, and counts nothing, if the budget does not have them. */
  charge(bytes: number): boolean;
  /** Counts `bytes` less. */
  release(bytes: number): void;
  /** Ends the call whose charge was refused. Returns the error that it ends with. */
  exhausted(): Error;
}
