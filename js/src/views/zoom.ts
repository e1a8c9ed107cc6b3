// The stretch of a run that is shown, and what lies under a place of it. Pure.

/** Never less than this share of the whole: beyond it blocks are wider than any screen. */
const LEAST = 1e-5;

export interface Range {
  t0: number;
  t1: number;
}

/** Zoom by a factor around a moment, within 0 to `whole`. */
export function zoomed(range: Range, factor: number, around: number, whole: number): Range {
  const length = Math.min(whole, Math.max(whole * LEAST, (range.t1 - range.t0) / factor));
  const share = (around - range.t0) / (range.t1 - range.t0 || 1);
  return moved({ t0: around - share * length, t1: around + (1 - share) * length }, 0, whole);
}

/** Shift by seconds, within 0 to `whole`. */
export function moved(range: Range, by: number, whole: number): Range {
  const length = Math.min(whole, range.t1 - range.t0);
  const t0 = Math.min(Math.max(0, range.t0 + by), whole - length);
  return { t0, t1: t0 + length };
}

/** The range moved, and widened if it must be, so that a block is seen. */
export function showing(range: Range, start: number, end: number, whole: number): Range {
  if (end - start > range.t1 - range.t0) return moved({ t0: start, t1: end }, 0, whole);
  if (start < range.t0) return moved(range, start - range.t0, whole);
  return end > range.t1 ? moved(range, end - range.t1, whole) : range;
}

/** The i-th block of `spans` (place, start, duration) at a moment on one of `lanes`, or -1. */
export function under(spans: Float64Array, lane: (place: number) => boolean, t: number, slack: number): number {
  let best = -1;
  let nearest = slack;
  for (let i = 0; i < spans.length; i += 3) {
    if (!lane(spans[i] as number)) continue;
    const start = spans[i + 1] as number;
    const end = start + (spans[i + 2] as number);
    const distance = t < start ? start - t : t > end ? t - end : 0;
    if (distance <= nearest) { best = i / 3; nearest = distance; if (distance === 0) return best; }
  }
  return best;
}

/** Round moments for an axis: at most `most` of them. */
export function axis(range: Range, most: number): number[] {
  const raw = (range.t1 - range.t0) / Math.max(1, most);
  if (!(raw > 0)) return [];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = ([1, 2, 5, 10].find((s) => s * power >= raw) ?? 10) * power;
  const out: number[] = [];
  for (let k = Math.ceil(range.t0 / step - 1e-9); k * step <= range.t1 + step * 1e-9; k++) out.push(k * step + 0); // never −0
  return out;
}
