// Where the time axis has its ticks: round distances from now, fewer where there is little room.

const STEPS: Record<number, [wide: number, narrow: number]> = { 10: [2, 5], 60: [10, 20], 600: [120, 300], 3600: [900, 1800] };

/** Moments of the ticks of a window that ends at `now`, earliest first. */
export function ticks(now: number, window: number, narrow: boolean): number[] {
  const step = (STEPS[window] ?? [window / 5, window / 2])[narrow ? 1 : 0];
  const out: number[] = [];
  for (let before = window; before >= -1e-9; before -= step) out.push(now - before);
  return out;
}
