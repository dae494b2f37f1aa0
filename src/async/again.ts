/** Runs `work`, and once more after each failure that `passes`: with the last of so many attempts its failure stays. */
export async function again<T>(
  attempts: number,
  passes: (error: unknown) => boolean,
  work: () => T | Promise<T>,
): Promise<T> {
  for (let left = attempts - 1; ; left--) {
    try {
      return await work();
    } catch (error) {
      if (left === 0 || !passes(error)) throw error;
    }
  }
}
