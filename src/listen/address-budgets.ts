export interface AddressBudgetOptions {
  /** Units a second that an address gets back. It can save up ten seconds' worth. */
  readonly rate: number;
}

/** What the peers of one address have open, and what they may still waste. */
export interface AddressAccount {
  readonly address: string;
  /** Open connections. */
  connections: number;
  /** Units left, at the time `at`. */
  units: number;
  at: number;
}

/** Seconds of the rate that an address can save up, or owe. */
const burstSeconds = 10;

/** Accounts without a connection that are kept, at most; the oldest is forgotten first. */
const maxResting = 10_000;

/**
 * An account for each address: a token bucket of what its peers cost without a call that is served. Accounts exist for
 * open connections, and until they are full again.
 */
export class AddressBudgets {
  readonly #rate: number;
  readonly #burst: number;
  readonly #accounts = new Map<string, AddressAccount>();
  /** Those without a connection, the one that was left first at the front. */
  readonly #resting = new Map<string, AddressAccount>();

  constructor({ rate }: AddressBudgetOptions) {
    this.#rate = rate;
    this.#burst = rate * burstSeconds;
  }

  /** Accounts that are remembered though they have no connection. */
  get resting(): number {
    return this.#resting.size;
  }

  /** The account of an address, which counts a connection more. */
  open(address: string, now: number): AddressAccount {
    const account = this.get(address) ?? this.#create(address, now);
    if (account.connections++ === 0) {
      this.#resting.delete(address);
      this.#accounts.set(address, account);
    }
    return account;
  }

  get(address: string): AddressAccount | undefined {
    return this.#accounts.get(address) ?? this.#resting.get(address);
  }

  /** A connection of it has closed. */
  close(account: AddressAccount, now: number): void {
    if (--account.connections > 0) return;
    this.#accounts.delete(account.address);
    this.#refill(account, now);
    if (account.units < this.#burst) this.#rest(account);
  }

  /** Takes units from an account. False, and takes nothing, if there are not as many. */
  charge(account: AddressAccount, units: number, now: number): boolean {
    this.#refill(account, now);
    if (account.units < units) return false;
    account.units -= units;
    return true;
  }

  /**
   * Takes units from an address, also if it has no connection any more, and returns what is left. That may be less than
   * nothing: what a peer has sent at once is served at once, and paid for later, with ten seconds' worth at most.
   */
  spend(address: string, units: number, now: number): number {
    const account = this.get(address) ?? this.#create(address, now);
    this.#refill(account, now);
    account.units = Math.max(-this.#burst, account.units - units);
    if (account.connections === 0) this.#rest(account);
    return account.units;
  }

  /** Gives units back. */
  refund(account: AddressAccount, units: number): void {
    account.units = Math.min(this.#burst, account.units + units);
  }

  /** Forgets accounts that are full again. */
  sweep(now: number): void {
    for (const [address, { at }] of this.#resting) {
      // From the deepest debt.
      if (now - at < 2 * burstSeconds * 1000) return;
      this.#resting.delete(address);
    }
  }

  #create(address: string, now: number): AddressAccount {
    return { address, connections: 0, units: this.#burst, at: now };
  }

  /** Remembers an account that has no connection, for as long as it is not full. */
  #rest(account: AddressAccount): void {
    this.#resting.delete(account.address);
    this.#resting.set(account.address, account);
    if (this.#resting.size <= maxResting) return;
    for (const oldest of this.#resting.keys()) {
      this.#resting.delete(oldest);
      break;
    }
  }

  #refill(account: AddressAccount, now: number): void {
    account.units = Math.min(this.#burst, account.units + ((now - account.at) * this.#rate) / 1000);
    account.at = now;
  }
}
