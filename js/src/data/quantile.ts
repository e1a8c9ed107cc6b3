// Order statistics of durations. Pure.

import type { Amount } from "./messages";

/** The value below which that share of the sorted values lies, interpolated. */
export function percentile(sorted: number[], share: number): number {
  const place = share * (sorted.length - 1);
  const below = sorted[Math.floor(place)] as number;
  return below + ((sorted[Math.ceil(place)] as number) - below) * (place % 1);
}

/** A quantile with the interval that its order statistics give (95 %, for runs that do not depend on each other). */
export function quantile(values: number[], share: number): Amount {
  const sorted = [...values].sort((a, b) => a - b);
  const none = { value: null, unit: "s", provenance: "unavailable", low: null, high: null };
  if (!sorted.length) return { ...none, note: "no run was timed" };
  if (share > 0.5 && sorted.length < 20) return { ...none, note: `${sorted.length} runs are too few` };
  const [low, high] = ranks(sorted.length, share);
  const known = low >= 1 && high <= sorted.length;
  return {
    value: percentile(sorted, share), unit: "s", provenance: "measured", low: known ? (sorted[low - 1] as number) : null, high: known ? (sorted[high - 1] as number) : null,
    note: known ? "as if no run depended on another" : `${sorted.length} runs are too few for an interval`,
  };
}

/** Places of the order statistics between which the quantile lies with 95 % (binomial, two-sided). */
function ranks(n: number, share: number): [low: number, high: number] {
  let chance = -Infinity;
  let below = 0;
  let low = 0;
  let high = n + 1;
  for (let k = 0; k <= n; k++) {
    chance = k ? chance + Math.log((n - k + 1) / k) + Math.log(share / (1 - share)) : n * Math.log(1 - share);
    below += Math.exp(chance);
    if (below <= 0.025) low = k + 1;
    if (below >= 0.975) { high = k + 1; break; }
  }
  return [low, high];
}
