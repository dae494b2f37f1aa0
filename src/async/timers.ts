/** The longest time that a timer of JavaScript can wait, in milliseconds: with a longer one, it fires at once. */
export const maxTimerMs = 2 ** 31 - 1;

/** How much a duration varies: so that what begins together does not end together. */
const spread = 0.1;

/**
 * Different durations. Node keeps a list for each duration that an unref'd timer has, until the last of them would have
 * fired, even if all have been cleared: a duration of its own for each connection would keep memory for each.
 */
const steps = 100;

/** The duration, 10 % more or less. */
export function jittered(ms: number): number {
  const step = Math.floor(Math.random() * (steps + 1));
  return Math.round(ms * (1 + spread * ((2 * step) / steps - 1)));
}
