// What lies behind and over the curves of every strip: grid, running cells, gaps, incidents, labels.

import { brief, fitting } from "../text/format";
import type { CellEvent, IncidentEvent } from "../data/messages";
import type { Gap, Store } from "../data/store";
import { hatch, type Theme } from "../page/theme";
import { ticks } from "./ticks";

export interface Scene {
  t0: number;
  t1: number;
  ticks: number[];
  cells: CellEvent[];
  gaps: Gap[];
  incidents: IncidentEvent[];
}

/** What of the store falls into a window that ends now. */
export function within(store: Pick<Store, "cells" | "gaps" | "incidents">, now: number, window: number, narrow: boolean): Scene {
  const t0 = now - window;
  return {
    t0, t1: now, ticks: ticks(now, window, narrow),
    cells: store.cells.filter((c) => c.t0 < now && (c.t1 ?? now) > t0),
    gaps: store.gaps.filter((g) => g.t0 < now && g.t1 > t0),
    incidents: store.incidents.filter((i) => i.t >= t0 && i.t <= now),
  };
}

export const LEFT = 54;
export const LEFT_NARROW = 10;
export const RIGHT = 12;

/** A canvas as large as the plotting box is wide and the plot is high. */
export interface Brush {
  ctx: CanvasRenderingContext2D;
  theme: Theme;
  scene: Scene;
  scale: number;
  width: number;
  height: number;
  /** Where a moment lies, in canvas pixels. */
  x: (t: number) => number;
  /** The pattern of gaps goes with the curves: how far it has gone. */
  slid: number;
}

/** Everything under the curves that goes with them. */
export function paintGround(b: Brush): void {
  for (const cell of b.scene.cells) column(b, cell.t0, cell.t1 ?? b.scene.t1, b.theme.colour.shade, 0);
  for (const gap of b.scene.gaps) column(b, gap.t0, gap.t1, sliding(hatch(b.theme.colour.all, 0.34, false, b.scale), b.slid), 1);
}

/** A pattern that goes with what it fills. */
export function sliding(pattern: CanvasPattern | string, by: number): CanvasPattern | string {
  if (typeof pattern !== "string") pattern.setTransform({ a: 1, b: 0, c: 0, d: 1, e: by, f: 0 });
  return pattern;
}

function column(b: Brush, from: number, to: number, fill: string | CanvasPattern, least: number): void {
  const x = Math.max(0, b.x(from));
  const width = Math.max(Math.min(b.width, b.x(to)) - x, least);
  if (width <= 0) return;
  // A gap is a gap in the shading of its cell, too.
  if (least) b.ctx.clearRect(x, 0, width, b.height);
  b.ctx.fillStyle = fill;
  b.ctx.fillRect(x, 0, width, b.height);
}

function line(ctx: CanvasRenderingContext2D, x0: number, y0: number, x1: number, y1: number): void {
  ctx.beginPath();
  ctx.moveTo(x0, y0);
  ctx.lineTo(x1, y1);
  ctx.stroke();
}

/** The grid, which stands still: a line at each tick, and dotted ones at these heights. */
export function paintGrid(b: Brush, levels: number[]): void {
  const { ctx, scale, width, height } = b;
  ctx.lineWidth = scale;
  ctx.strokeStyle = b.theme.colour.ln3;
  ctx.setLineDash([]);
  for (const t of b.scene.ticks) {
    const x = Math.round(b.x(t)) - 0.5;
    if (x > 1 && x < width - 1) line(ctx, x, 0, x, height);
  }
  ctx.strokeStyle = b.theme.colour.ln;
  levels.forEach((level, i) => {
    ctx.setLineDash(i ? [scale, 3 * scale] : []);
    const y = Math.round(level) + 0.5;
    line(ctx, 0, y, width, y);
  });
}

/** Incidents, over the curves. */
export function paintIncidents(b: Brush): void {
  b.ctx.strokeStyle = b.theme.colour.warn;
  b.ctx.lineWidth = b.scale;
  b.ctx.setLineDash([2 * b.scale, 2 * b.scale]);
  b.ctx.lineDashOffset = 0;
  for (const incident of b.scene.incidents) {
    const x = Math.round(b.x(incident.t)) - 0.5;
    line(b.ctx, x, 0, x, b.height);
  }
  b.ctx.setLineDash([]);
}

/** The label of a level, in the unit of the whole axis; the unit stands at the top only. */
export function levelLabel(value: number, top: number, unit: string, withUnit: boolean): string {
  const scale = fitting(top, unit);
  const number = brief(value / scale.divisor);
  if (!withUnit || unit === "{core}") return number;
  return scale.unit.startsWith("/") ? number + scale.unit : `${number} ${scale.unit}`;
}
