// Two recordings side by side, as far as their own intervals allow. Pure.

import type { Told } from "../data/desk";
import type { Amount } from "../data/messages";

export type Verdict = "baseline" | "faster" | "slower" | "same";

/** A verdict only where the intervals do not touch; without an interval there is none. */
export function verdict(one: Amount, baseline: Amount): Verdict {
  if (one.low === null || one.high === null || baseline.low === null || baseline.high === null) return "same";
  return one.high < baseline.low ? "faster" : one.low > baseline.high ? "slower" : "same";
}

/** What two intervals leave open for the ratio; null where one of them is not known. */
export function ratioBetween(one: Amount, baseline: Amount): [low: number, high: number] | null {
  if (one.low === null || one.high === null || !baseline.low || !baseline.high) return null;
  return [one.low / baseline.high, one.high / baseline.low];
}

export interface Pair {
  node: string;
  op: string;
  before: number | null;
  after: number | null;
}

/** Operations of both by name, those first whose time changed most. */
export function pairs(one: Told, baseline: Told): Pair[] {
  const found = new Map<string, Pair>();
  const add = (told: Told, side: "before" | "after") => {
    for (const row of told.ops) {
      const pair = found.get(row.node) ?? { node: row.node, op: row.op, before: null, after: null };
      pair[side] = (pair[side] ?? 0) + row.time;
      found.set(row.node, pair);
    }
  };
  add(baseline, "before");
  add(one, "after");
  const change = (pair: Pair) => Math.abs((pair.after ?? 0) - (pair.before ?? 0));
  return [...found.values()].sort((a, b) => change(b) - change(a));
}
