// What lies behind and over the curves of every strip: grid, running cells, gaps, incidents, labels.

import type uPlot from "uplot";

import { brief, fitting } from "./format";
import type { CellEvent, IncidentEvent } from "./messages";
import type { Gap, Store } from "./store";
import { hatch, type Theme } from "./theme";
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
    incidents: store.incidents,
  };
}

export const LEFT = 54;
export const LEFT_NARROW = 10;
export const RIGHT = 12;

interface Brush {
  u: uPlot;
  ctx: CanvasRenderingContext2D;
  theme: Theme;
  scene: Scene;
  scale: number;
  /** The plotting box in canvas pixels. */
  left: number;
  right: number;
  top: number;
  bottom: number;
  full: number;
}

export function brush(u: uPlot, theme: Theme, scene: Scene): Brush {
  const { left, top, width, height } = u.bbox;
  return {
    u, ctx: u.ctx, theme, scene, scale: devicePixelRatio,
    left, right: left + width, top, bottom: top + height, full: u.ctx.canvas.height,
  };
}

function clampX(b: Brush, t: number): number {
  return Math.min(b.right, Math.max(b.left, b.u.valToPos(t, "x", true)));
}

/** Everything under the curves. */
export function paintGround(b: Brush): void {
  b.ctx.save();
  for (const cell of b.scene.cells) column(b, cell.t0, cell.t1 ?? b.scene.t1, b.theme.colour.shade, 0);
  const pattern = hatch(b.theme.colour.all, 0.34, false, b.scale);
  for (const gap of b.scene.gaps) {
    column(b, gap.t0, gap.t1, b.theme.colour.bg, 1);
    column(b, gap.t0, gap.t1, pattern, 1);
  }
  b.ctx.strokeStyle = b.theme.colour.ln3;
  b.ctx.lineWidth = b.scale;
  for (const t of b.scene.ticks) {
    const x = Math.round(b.u.valToPos(t, "x", true)) - 0.5;
    if (x > b.left + 1 && x < b.right - 1) line(b.ctx, x, 0, x, b.full);
  }
  b.ctx.restore();
}

function column(b: Brush, from: number, to: number, fill: string | CanvasPattern, least: number): void {
  if (to < b.scene.t0 || from > b.scene.t1) return;
  const x = clampX(b, from);
  const width = Math.max(clampX(b, to) - x, least);
  if (width <= 0) return;
  b.ctx.fillStyle = fill;
  b.ctx.fillRect(x, 0, width, b.full);
}

function line(ctx: CanvasRenderingContext2D, x0: number, y0: number, x1: number, y1: number): void {
  ctx.beginPath();
  ctx.moveTo(x0, y0);
  ctx.lineTo(x1, y1);
  ctx.stroke();
}

/** The horizontal lines at zero, half and top. */
export function paintLevels(b: Brush, top: number): void {
  b.ctx.save();
  b.ctx.strokeStyle = b.theme.colour.ln;
  b.ctx.lineWidth = b.scale;
  for (const share of [0, 0.5, 1]) {
    b.ctx.setLineDash(share ? [b.scale, 3 * b.scale] : []);
    const y = Math.round(b.u.valToPos(top * share, "y", true)) + 0.5;
    line(b.ctx, b.left, y, b.right, y);
  }
  b.ctx.restore();
}

/** Incidents and the labels of the levels, over the curves; narrow plots have their labels inside, with a halo. */
export function paintOver(b: Brush, axis: { top: number; unit: string; few: boolean } | null, narrow: boolean): void {
  b.ctx.save();
  b.ctx.strokeStyle = b.theme.colour.warn;
  b.ctx.lineWidth = b.scale;
  b.ctx.setLineDash([2 * b.scale, 2 * b.scale]);
  for (const incident of b.scene.incidents) {
    if (incident.t < b.scene.t0 || incident.t > b.scene.t1) continue;
    const x = Math.round(b.u.valToPos(incident.t, "x", true)) - 0.5;
    line(b.ctx, x, 0, x, b.full);
  }
  b.ctx.restore();
  if (axis) labels(b, axis.top, axis.unit, narrow, axis.few);
}

function labels(b: Brush, top: number, unit: string, narrow: boolean, few: boolean): void {
  const { ctx, scale } = b;
  ctx.save();
  ctx.font = b.theme.font.replace(/^(\d+)px/, (_, size: string) => `${Number(size) * scale}px`);
  ctx.fillStyle = b.theme.colour.tx2;
  ctx.strokeStyle = b.theme.colour.bg;
  ctx.lineWidth = 3 * scale;
  ctx.lineJoin = "round";
  ctx.textAlign = narrow ? "left" : "right";
  for (const share of few ? [0, 1] : [0, 0.5, 1]) {
    if (narrow && share === 0) continue;
    const text = level(top * share, top, unit, share === 1);
    const y = b.u.valToPos(top * share, "y", true);
    const place = narrow ? y + 12 * scale : Math.min(Math.max(y + 4 * scale, 10 * scale), b.full - 2 * scale);
    const x = narrow ? b.left + 3 * scale : b.left - 6 * scale;
    if (narrow) ctx.strokeText(text, x, place);
    ctx.fillText(text, x, place);
  }
  ctx.restore();
}

/** The label of a level, in the unit of the whole axis; the unit stands at the top only. */
function level(value: number, top: number, unit: string, withUnit: boolean): string {
  const scale = fitting(top, unit);
  const number = brief(value / scale.divisor);
  if (!withUnit || unit === "{core}") return number;
  return scale.unit.startsWith("/") ? number + scale.unit : `${number} ${scale.unit}`;
}
