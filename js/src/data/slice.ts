// The part of the ring that a plot shows, thinned to what its pixels can show; curves break where nothing was sampled.

import type { Level } from "./levels";
import type { Ring } from "./ring";

export type Curve = (number | null)[];

export interface Slice {
  x: number[];
  ys: Curve[];
  /** Greatest value per column, 0 where there is none. */
  tops: number[];
}

/** Rows, or stretches of them, in order: when each begins and ends, and the edges of its values. */
interface Stretches {
  first(i: number): number;
  last(i: number): number;
  low(i: number, column: number): number;
  high(i: number, column: number): number;
}

/**
 * Columns of the rows between `t0` and `t1`; `gap` seconds without a row interrupt the curves. Of each `bucket` seconds
 * the least and the greatest values are taken, or each row where it is 0: then as now the same rows give the same points.
 */
export function slice(
  ring: Ring, columns: number[], t0: number, t1: number, gap: number, bucket: number, levels: Level[] = [],
): Slice {
  const out: Slice = { x: [], ys: columns.map(() => []), tops: columns.map(() => 0) };
  // One row before the window, so that a curve enters from its edge.
  const first = Math.max(0, ring.lower(t0) - 1);
  const last = ring.lower(t1 + 1e-9);
  const level = levels.findLast((each) => each.bucket <= bucket);
  if (!bucket) every(ring, columns, first, last, gap, out);
  else if (level) thinned(level, columns, Math.max(0, level.lower(t0) - 1), level.lower(t1 + level.bucket), bucket, gap, out);
  else thinned(rowsOf(ring), columns, first, last, bucket, gap, out);
  return out;
}

function every(ring: Ring, columns: number[], first: number, last: number, gap: number, out: Slice): void {
  let before = NaN;
  for (let i = first; i < last; i++) {
    const t = ring.time(i);
    if (t - before > gap) interrupt(out, before + 1e-6);
    before = t;
    out.x.push(t);
    columns.forEach((c, k) => put(out, k, ring.value(i, c)));
  }
}

function rowsOf(ring: Ring): Stretches {
  const time = (i: number) => ring.time(i);
  const value = (i: number, column: number) => ring.value(i, column);
  return { first: time, last: time, low: value, high: value };
}

function thinned(
  rows: Stretches, columns: number[], first: number, last: number, bucket: number, gap: number, out: Slice,
): void {
  let i = first;
  let before = NaN;
  while (i < last) {
    // Buckets lie at multiples of their length, so that the same rows fall together in the next redraw.
    const start = Math.floor(rows.first(i) / bucket) * bucket;
    if (rows.first(i) - before > gap) interrupt(out, before + 1e-6);
    // At least one row, whatever rounding does to the edge of its bucket.
    let end = i + 1;
    while (end < last && rows.first(end) < start + bucket) end++;
    before = rows.last(end - 1);
    const from = Math.max(start + bucket / 4, (out.x[out.x.length - 1] ?? -Infinity) + 1e-9);
    out.x.push(from, from + bucket / 2);
    columns.forEach((c, k) => extremes(rows, c, i, end, k, out));
    i = end;
  }
}

function extremes(rows: Stretches, column: number, from: number, to: number, k: number, out: Slice): void {
  let low = Infinity;
  let high = -Infinity;
  let falling = false;
  for (let i = from; i < to; i++) {
    const least = rows.low(i, column);
    const most = rows.high(i, column);
    if (most > high) { high = most; falling = false; }
    // Which of the two came last: a slope must not look like a saw.
    if (least < low) { low = least; falling = i > from; }
  }
  const known = low <= high;
  put(out, k, known ? (falling ? high : low) : NaN);
  put(out, k, known ? (falling ? low : high) : NaN);
}

function put(out: Slice, k: number, value: number): void {
  (out.ys[k] as Curve).push(Number.isNaN(value) ? null : value);
  if (value > (out.tops[k] as number)) out.tops[k] = value;
}

function interrupt(out: Slice, x: number): void {
  out.x.push(Math.max(x, (out.x[out.x.length - 1] ?? -Infinity) + 1e-9));
  for (const y of out.ys) y.push(null);
}

/** Time integral of a column between two moments; stretches without samples add nothing. */
export function integral(ring: Ring, column: number, t0: number, t1: number, gap: number): number {
  let sum = 0;
  let any = false;
  const last = ring.lower(t1 + 1e-9);
  for (let i = Math.max(1, ring.lower(t0)); i < last; i++) {
    const dt = ring.time(i) - Math.max(t0, ring.time(i - 1));
    const v = ring.value(i, column);
    if (dt > gap || dt < 0 || Number.isNaN(v)) continue;
    sum += v * dt;
    any = true;
  }
  return any ? sum : NaN;
}

/** Least and greatest value of a column between two moments; NaN where there is none. */
export function extent(ring: Ring, column: number, t0: number, t1: number, levels: Level[] = []): [low: number, high: number] {
  // Stretches that lie wholly within are read as one; what is left over at the edges is read row by row.
  const level = levels.findLast((each) => each.bucket <= (t1 - t0) / 100);
  let [low, high] = [Infinity, -Infinity];
  const take = (least: number, most: number) => { if (least < low) low = least; if (most > high) high = most; };
  const rows = (from: number, to: number) => {
    for (let i = ring.lower(from), last = ring.lower(to); i < last; i++) take(ring.value(i, column), ring.value(i, column));
  };
  let [begin, end] = [t0, t1 + 1e-9];
  if (level) {
    const first = level.lower(t0) + 1;
    let last = first;
    while (last < level.length && level.last(last) <= t1) { take(level.low(last, column), level.high(last, column)); last++; }
    if (last > first) {
      rows(begin, level.first(first));
      begin = level.last(last - 1) + 1e-9;
    }
  }
  rows(begin, end);
  return low <= high ? [low, high] : [NaN, NaN];
}
