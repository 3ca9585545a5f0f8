const FIRST = 1000;
const LONGEST = 30_000;

/**
 * How long to wait before an attempt: a random time up to a bound that doubles from 1 to 30 seconds. So clients
 * that lost the same server do not come back in the same moment ("full jitter").
 *
 * @param {number} attempt How many attempts have failed in a row.
 * @param {() => number} random
 */
export function backoff(attempt, random) {
  return random() * Math.min(LONGEST, FIRST * 2 ** attempt);
}
