// A long program in columns, as a newspaper sets a long text: layers of operations, cut where few values cross. Pure.

export interface Size {
  w: number;
  h: number;
}

export interface Layered {
  /** The layer of each item. */
  layer: number[];
  count: number;
}

/** Space between layers, and between items of one. */
export const ROW = 30;
export const GAP = 22;

/** Longest path from above; `links` are pairs of places in execution order, those that go back are left out. */
export function layered(count: number, links: [number, number][]): Layered {
  const layer = new Array<number>(count).fill(0);
  const readers: number[][] = Array.from({ length: count }, () => []);
  const waits = new Array<number>(count).fill(0);
  for (const [from, to] of links) {
    if (from >= to) continue;
    (readers[from] as number[]).push(to);
    waits[to] = (waits[to] as number) + 1;
  }
  const ready = waits.flatMap((n, i) => (n ? [] : [i]));
  for (let k = 0; k < ready.length; k++) {
    const from = ready[k] as number;
    for (const to of readers[from] as number[]) {
      layer[to] = Math.max(layer[to] as number, (layer[from] as number) + 1);
      if (!--(waits as number[])[to]!) ready.push(to);
    }
  }
  // What nothing comes before stands just above its first reader: constants' casts do not all crowd the top.
  for (let i = count - 1; i >= 0; i--) {
    const after = readers[i] as number[];
    if (layer[i] === 0 && after.length) layer[i] = Math.max(0, Math.min(...after.map((to) => layer[to] as number)) - 1);
  }
  return { layer, count: layer.reduce((most, l) => Math.max(most, l + 1), 0) };
}

/** The column of each layer. `aspect` is width by height of where it will be shown. */
export function columns(sizes: Size[], found: Layered, links: [number, number][], aspect: number, most = 1100): number[] {
  const widths = new Array<number>(found.count).fill(0);
  const heights = new Array<number>(found.count).fill(0);
  found.layer.forEach((l, i) => {
    widths[l] = (widths[l] as number) + (sizes[i] as Size).w + GAP;
    heights[l] = Math.max(heights[l] as number, (sizes[i] as Size).h + ROW);
  });
  const total = heights.reduce((sum, h) => sum + h, 0);
  const width = [...widths].sort((a, b) => a - b)[Math.floor(found.count * 0.9)] ?? 1;
  const wanted = total <= most ? 1 : Math.max(1, Math.round(Math.sqrt((aspect * total) / (width + 60))));
  return cut(heights, crossings(found, links), total / wanted, wanted);
}

/** How many values go from above each layer to it or below. */
function crossings(found: Layered, links: [number, number][]): number[] {
  const last = new Map<number, number>();
  for (const [from, to] of links) last.set(from, Math.max(last.get(from) ?? 0, found.layer[to] as number));
  const change = new Array<number>(found.count + 1).fill(0);
  for (const [from, end] of last) {
    const start = found.layer[from] as number;
    if (end <= start) continue;
    change[start + 1] = (change[start + 1] as number) + 1;
    if (end + 1 <= found.count) change[end + 1] = (change[end + 1] as number) - 1;
  }
  let alive = 0;
  return change.map((c) => (alive += c));
}

function cut(heights: number[], crossing: number[], target: number, wanted: number): number[] {
  const column = new Array<number>(heights.length).fill(0);
  if (wanted < 2) return column;
  let start = 0;
  let number = 0;
  while (start < heights.length) {
    let sum = 0;
    let end = heights.length;
    let best = Infinity;
    for (let l = start; l < heights.length; l++) {
      sum += heights[l] as number;
      if (sum > target * 1.25) break;
      const rest = l + 1 === heights.length;
      const cost = rest && sum < target * 1.15 ? -1 : (crossing[l + 1] as number) + 4 * Math.abs(sum / target - 1);
      if (sum >= target * 0.7 || rest) {
        if (cost < best) { best = cost; end = l + 1; }
      }
    }
    if (best === Infinity) end = Math.min(heights.length, Math.max(start + 1, reach(heights, start, target)));
    for (let l = start; l < end; l++) column[l] = number;
    start = end;
    number++;
  }
  return column;
}

function reach(heights: number[], start: number, target: number): number {
  let sum = 0;
  for (let l = start; l < heights.length; l++) {
    sum += heights[l] as number;
    if (sum >= target) return l + 1;
  }
  return heights.length;
}
