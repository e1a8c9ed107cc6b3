// One plot of a strip. Its picture goes to the left with the time; only what is new at its right edge is drawn.

import { drawBand, type Pen, Trace } from "./curve";
import { h, say } from "../page/dom";
import { axisTop, type PlotSpec, scaling } from "./panels";
import { type Brush, LEFT, LEFT_NARROW, levelLabel, paintGrid, paintGround, paintIncidents, RIGHT, type Scene, sliding } from "./scene";
import { extent, slice } from "../data/slice";
import type { Store } from "../data/store";
import { hatch, type Theme } from "../page/theme";

/** Stretches per CSS pixel that a curve is thinned to, where it has more than two rows for each. */
const DENSITY = 0.75;
const TOP = 8;
const FOOT = 4;
const LANE = 21;
/** CSS pixels by which a stroke reaches beyond its points. */
const REACH = 2;
const LEVELS = [0, 0.5, 1];

export class Plot {
  private readonly grid = h("canvas");
  private readonly curves = h("canvas");
  private readonly labels = LEVELS.map(() => h("span", { class: "cml-lev" }));
  private readonly metrics: string[];
  private readonly deciding: string[];
  private readonly traces: Trace[];
  private theme: Theme | null = null;
  private narrow = false;
  /** Pixels that the gutter beside it needs more. */
  private extra = 0;
  private scale = 1;
  private top = NaN;
  /** What the picture was drawn for; empty where there is none. */
  private key = "";
  /** Columns of pixels are counted from time zero: the one at the right edge, and the first that may still change. */
  private edge = NaN;
  private settled = NaN;

  constructor(
    private readonly host: HTMLElement,
    readonly spec: PlotSpec,
    private readonly store: Store,
  ) {
    this.metrics = [...(spec.band ?? []), ...spec.lines.map((line) => line.metric)];
    this.traces = this.metrics.map(() => new Trace());
    this.deciding = [...scaling(spec)];
    host.append(this.grid, this.curves, ...(spec.bare ? [] : this.labels));
  }

  /** Make the plot for a width; colours and layout are fixed until the next call. */
  build(width: number, narrow: boolean, theme: Theme, extra: number): void {
    this.extra = extra;
    this.theme = theme;
    this.narrow = narrow;
    this.host.style.height = `${this.height}px`;
    this.resize(width);
  }

  /** Only the width changed. */
  resize(width: number): void {
    this.scale = scaleOf(this.host);
    const left = this.narrow ? LEFT_NARROW : LEFT;
    const across = columnsOf(width, this.narrow, this.scale);
    for (const canvas of [this.grid, this.curves]) {
      canvas.width = across;
      canvas.height = Math.round(this.height * this.scale);
      Object.assign(canvas.style, { left: `${left}px`, width: `${across / this.scale}px`, height: `${this.height}px` });
    }
    this.labels.forEach((label) => { label.style.width = this.narrow ? "auto" : `${left - 6}px`; });
    this.key = "";
  }

  /** `key` changes where more than the right edge may look different. */
  draw(scene: Scene, key: string): void {
    const { width } = this.curves;
    if (!this.theme || !width) return;
    const step = (scene.t1 - scene.t0) / width;
    const edge = Math.round(scene.t1 / step);
    const b = this.brush(this.curves, scene, step, edge);
    if (!b) return;
    const top = axisTop(this.spec, this.greatest(scene));
    const wanted = `${key} ${top}`;
    const shift = edge - this.edge;
    const goesOn = wanted === this.key && shift >= 0;
    const from = goesOn ? Math.max(0, this.settled - edge + width) : 0;
    if (from) scroll(b, shift);
    if (!goesOn) this.anew(scene, step, edge, top);
    this.paint(b, from, step, edge);
    this.key = wanted;
    this.edge = edge;
  }

  private get height(): number {
    return this.narrow ? this.spec.narrowHeight : this.spec.height + this.extra;
  }

  /** Greatest value that the axis must hold. */
  private greatest(scene: Scene): number {
    const { ring, levels } = this.store;
    // The curve enters from the row before the window.
    const first = ring.length ? Math.min(scene.t0, ring.time(Math.max(0, ring.lower(scene.t0) - 1))) : scene.t0;
    return Math.max(0, ...this.deciding.map((name) => extent(ring, this.store.column(name), first, scene.t1, levels)[1] || 0));
  }

  private y(value: number): number {
    const foot = this.spec.missing ? FOOT + LANE : FOOT;
    // Far above the axis it only matters that it is above.
    return (TOP + (this.height - TOP - foot) * (1 - Math.min(value / this.top, 9))) * this.scale;
  }

  private brush(canvas: HTMLCanvasElement, scene: Scene, step: number, edge: number): Brush | null {
    const ctx = canvas.getContext("2d");
    const { width, height } = canvas;
    if (!ctx || !this.theme) return null;
    return { ctx, theme: this.theme, scene, scale: this.scale, width, height, x: (t) => t / step - edge + width, slid: width - edge };
  }

  /** Nothing of the last picture holds: the axis or what lies behind the curves is another one. */
  private anew(scene: Scene, step: number, edge: number, top: number): void {
    this.traces.forEach((trace) => trace.reset());
    this.top = top;
    const b = this.brush(this.grid, scene, step, edge);
    if (!b) return;
    b.ctx.clearRect(0, 0, b.width, b.height);
    paintGrid(b, this.spec.bare ? [] : LEVELS.map((share) => this.y(top * share)));
    LEVELS.forEach((share, i) => this.label(this.labels[i] as HTMLElement, share));
  }

  private label(element: HTMLElement, share: number): void {
    const few = this.height < 60;
    element.hidden = (few && share === 0.5) || (this.narrow && share === 0);
    say(element, levelLabel(this.top * share, this.top, this.spec.unit, share === 1));
    const y = this.y(this.top * share) / this.scale;
    const base = this.narrow ? y + 12 : Math.min(Math.max(y + 4, 10), this.height - 2);
    element.style.top = `${base - 12}px`;
  }

  /** Draw from a column of the canvas to its right edge. */
  private paint(b: Brush, from: number, step: number, edge: number): void {
    const { ctx, scene } = b;
    const bucket = this.bucket(scene);
    const start = (edge - b.width + from) * step - 3 * bucket - this.store.schema.interval;
    const columns = this.metrics.map((name) => this.store.column(name));
    const part = slice(this.store.ring, columns, start, scene.t1, this.store.gapLimit, bucket, this.store.levels);
    ctx.save();
    ctx.beginPath();
    ctx.rect(from, 0, b.width - from, b.height);
    ctx.clip();
    ctx.clearRect(from, 0, b.width - from, b.height);
    paintGround(b);
    this.strokes(b, part.x, part.ys);
    paintIncidents(b);
    ctx.restore();
    this.settled = this.settling(scene.t1, bucket, step);
  }

  private strokes(b: Brush, x: number[], ys: (number | null)[][]): void {
    const { colour } = b.theme;
    const pen: Pen = { ctx: b.ctx, x: b.x, y: (value) => this.y(value), scale: b.scale };
    const { band, lines, area } = this.spec;
    b.ctx.lineJoin = "round";
    if (band) drawBand(pen, x, ys[0] ?? [], ys[1] ?? [], sliding(hatch(colour.est, 0.75, true, b.scale), b.slid));
    const edges = (band ?? []).map(() => ({ colour: colour.est, width: 0.7 }));
    const styles = lines.map((line) => ({
      colour: colour[line.colour], width: line.width, dash: line.dash, ...(line.metric === area ? { fill: faded(colour.soft, 0.5) } : {}),
    }));
    [...edges, ...styles].forEach((stroke, i) => this.traces[i]?.draw(pen, x, ys[i] ?? [], stroke));
  }

  /** Seconds that are drawn as one stretch; 0 where each row is drawn. */
  private bucket(scene: Scene): number {
    const length = scene.t1 - scene.t0;
    const points = Math.max(100, (this.curves.width / this.scale) * DENSITY);
    return length / this.store.schema.interval <= 2 * points ? 0 : length / points;
  }

  /** The column from which on new rows may change what is drawn now. */
  private settling(t1: number, bucket: number, step: number): number {
    const { ring } = this.store;
    const last = ring.lower(t1 + 1e-9) - 1;
    if (last < 0) return -Infinity;
    const t = ring.time(last);
    return Math.floor((bucket ? (Math.floor(t / bucket) - 2) * bucket : t) / step) - Math.ceil(REACH * this.scale);
  }
}

/** Pixels of the canvas across a plot of so many CSS pixels. */
export function columnsOf(width: number, narrow: boolean, scale: number): number {
  return Math.max(1, Math.round((width - (narrow ? LEFT_NARROW : LEFT) - RIGHT) * scale));
}

/** Canvas pixels per CSS pixel where an element is shown. */
export function scaleOf(element: Element): number {
  return element.ownerDocument.defaultView?.devicePixelRatio || 1;
}

function scroll(b: Brush, by: number): void {
  if (!by) return;
  b.ctx.globalCompositeOperation = "copy";
  b.ctx.drawImage(b.ctx.canvas, -by, 0);
  b.ctx.globalCompositeOperation = "source-over";
}

/** A resolved colour, partly transparent. */
function faded(colour: string, opacity: number): string {
  const parts = colour.match(/[\d.]+/g) ?? ["0", "0", "0"];
  return `rgba(${parts.slice(0, 3).join(",")},${opacity})`;
}
