const FIRST = 1000;
const LONGEST = 30_000;

/**
 * How long to wait before an attempt: anything between nothing and a bound that doubles from 1 to 30 seconds. So clients
 * that lost the same server do not come back in the same moment ("full jitter").
 *
 * @param {number} attempt How many have failed before, without a while of peace between them.
 * @param {() => number} random
 */
export function backoff(attempt, random) {
  return random() * Math.min(LONGEST, FIRST * 2 ** attempt);
}
