/** A reader that waits at the tail of a stream. */
export interface Follower {
  /** Ends the wait with the reason, as soon as there is one. */
  fail(reason: Error): void;
}

/** All readers at a tail, so that a drain ends them. An AbortSignal searches its list of listeners at each change of it. */
export class Followers {
  readonly #followers = new Set<Follower>();
  #reason: Error | undefined;

  add(follower: Follower): void {
    if (this.#reason === undefined) this.#followers.add(follower);
    else follower.fail(this.#reason);
  }

  delete(follower: Follower): void {
    this.#followers.delete(follower);
  }

  /** Ends every wait, and all that follow, with the reason. */
  end(reason: Error): void {
    this.#reason ??= reason;
    for (const follower of this.#followers) follower.fail(reason);
  }
}
