// Curves on a canvas that scrolls: runs of points between interruptions, whose dashes go on where the last picture left them.

import type { Curve } from "../data/slice";

/** Where moments and values lie, in canvas pixels. */
export interface Pen {
  ctx: CanvasRenderingContext2D;
  x: (t: number) => number;
  y: (value: number) => number;
  scale: number;
}

export interface Stroke {
  colour: string;
  /** CSS pixels. */
  width: number;
  dash?: number[];
  /** What fills the ground down to zero. */
  fill?: string;
}

/** Stretches of a curve that hold values, as first index and the one after the last. */
function runs(values: Curve): [from: number, to: number][] {
  const found: [number, number][] = [];
  let from = -1;
  for (let i = 0; i <= values.length; i++) {
    const known = i < values.length && values[i] !== null;
    if (known && from < 0) from = i;
    if (!known && from >= 0) { found.push([from, i]); from = -1; }
  }
  return found;
}

function path(pen: Pen, x: number[], values: Curve, from: number, to: number): void {
  for (let i = from; i < to; i++) pen.ctx.lineTo(pen.x(x[i] as number), pen.y(values[i] as number));
}

/** One curve, and how far along it each of its newest points lies: there its dashes go on. */
export class Trace {
  private along = new Map<number, number>();

  /** Draw the part with these points; the others stay as they were drawn. */
  draw(pen: Pen, x: number[], values: Curve, stroke: Stroke): void {
    const before = this.along;
    this.along = new Map();
    const { ctx, scale } = pen;
    ctx.strokeStyle = stroke.colour;
    ctx.lineWidth = stroke.width * scale;
    const dash = (stroke.dash ?? []).map((length) => length * scale);
    ctx.setLineDash(dash);
    for (const [from, to] of runs(values)) {
      if (stroke.fill) this.fill(pen, x, values, from, to, stroke.fill);
      if (dash.length) ctx.lineDashOffset = this.measure(pen, x, values, from, to, before);
      ctx.beginPath();
      // A sample alone has no length: it gets a width, or it would not be seen.
      if (to === from + 1) ctx.moveTo(pen.x(x[from] as number) - scale, pen.y(values[from] as number));
      path(pen, x, values, from, to);
      ctx.stroke();
    }
    ctx.setLineDash([]);
  }

  /** Forget where the dashes were: everything is drawn anew. */
  reset(): void {
    this.along.clear();
  }

  private fill(pen: Pen, x: number[], values: Curve, from: number, to: number, fill: string): void {
    const { ctx } = pen;
    ctx.fillStyle = fill;
    ctx.beginPath();
    ctx.moveTo(pen.x(x[from] as number), pen.y(0));
    path(pen, x, values, from, to);
    ctx.lineTo(pen.x(x[to - 1] as number), pen.y(0));
    ctx.fill();
  }

  /** How far along the curve the part begins: as far as its third point was before, less the way from there. */
  private measure(pen: Pen, x: number[], values: Curve, from: number, to: number, before: Map<number, number>): number {
    const way = [0];
    for (let i = from + 1; i < to; i++) {
      const [dx, dy] = [pen.x(x[i] as number) - pen.x(x[i - 1] as number), pen.y(values[i] as number) - pen.y(values[i - 1] as number)];
      way.push((way[way.length - 1] as number) + Math.hypot(dx, dy));
    }
    // The first two may be those of half a stretch.
    const known = before.get(x[from + 2] as number);
    const start = known === undefined ? 0 : known - (way[2] as number);
    way.forEach((length, i) => this.along.set(x[from + i] as number, start + length));
    return start;
  }
}

/** What lies between the edges of an estimate. */
export function drawBand(pen: Pen, x: number[], low: Curve, high: Curve, fill: string | CanvasPattern): void {
  const { ctx } = pen;
  ctx.fillStyle = fill;
  for (const [from, to] of runs(low.map((value, i) => (value === null ? null : high[i] ?? null)))) {
    ctx.beginPath();
    path(pen, x, high, from, to);
    for (let i = to - 1; i >= from; i--) ctx.lineTo(pen.x(x[i] as number), pen.y(low[i] as number));
    ctx.fill();
  }
}
