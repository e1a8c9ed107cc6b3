// One plot of a strip: uPlot draws the curves, the scene is painted under and over them.

import uPlot from "uplot";

import { axisTop, type PlotSpec, scaling } from "./panels";
import { brush, LEFT, LEFT_NARROW, paintGround, paintLevels, paintOver, RIGHT, type Scene } from "./scene";
import { slice } from "./slice";
import type { Store } from "./store";
import { hatch, type Theme } from "./theme";

/** Stretches per CSS pixel that a curve is thinned to: few where it is drawn anew ten times a second. */
const DENSITY = 0.75;
const OFTEN = 0.22;
const SHORT = 60;
const TOP = 8;
const FOOT = 4;
const LANE = 21;

export class Plot {
  private u: uPlot | null = null;
  private top = 1;
  private readonly metrics: string[];
  private readonly deciding: Set<string>;
  private scene: Scene = { t0: 0, t1: 1, ticks: [], cells: [], gaps: [], incidents: [] };
  private theme: Theme | null = null;
  private narrow = false;
  /** Pixels that the gutter beside it needs more. */
  private extra = 0;
  private band: CanvasPattern | string = "transparent";

  constructor(
    private readonly host: HTMLElement,
    readonly spec: PlotSpec,
    private readonly store: Store,
  ) {
    this.metrics = [...(spec.band ?? []), ...spec.lines.map((line) => line.metric)];
    this.deciding = scaling(spec);
  }

  /** Make the plot for a width; colours and layout are fixed until the next call. */
  build(width: number, narrow: boolean, theme: Theme, extra: number): void {
    this.u?.destroy();
    this.extra = extra;
    this.theme = theme;
    this.narrow = narrow;
    this.band = hatch(theme.colour.est, 0.75, true, devicePixelRatio);
    this.u = new uPlot(this.options(width), this.empty(), this.host);
  }

  /** Only the width changed. */
  resize(width: number): void {
    this.u?.setSize({ width, height: this.height });
  }

  private get height(): number {
    return this.narrow ? this.spec.narrowHeight : this.spec.height + this.extra;
  }

  draw(scene: Scene): void {
    if (!this.u) return;
    this.scene = scene;
    const columns = this.metrics.map((name) => this.store.column(name));
    const points = Math.max(100, this.u.bbox.width / devicePixelRatio * (scene.t1 - scene.t0 <= SHORT ? OFTEN : DENSITY));
    const part = slice(this.store.ring, columns, scene.t0, scene.t1, this.store.gapLimit, points, this.store.levels);
    const greatest = Math.max(0, ...part.tops.filter((_, i) => this.deciding.has(this.metrics[i] as string)));
    this.top = axisTop(this.spec, greatest);
    this.u.setData([part.x, ...part.ys] as uPlot.AlignedData);
  }

  destroy(): void {
    this.u?.destroy();
    this.u = null;
  }

  private empty(): uPlot.AlignedData {
    return [[0, 1], ...this.metrics.map(() => [null, null])] as uPlot.AlignedData;
  }

  private options(width: number): uPlot.Options {
    const foot = this.spec.missing ? FOOT + LANE : FOOT;
    const left = this.narrow ? LEFT_NARROW : LEFT;
    return {
      width, height: this.height,
      padding: [TOP, RIGHT, foot, left],
      cursor: { show: false }, legend: { show: false }, select: { show: false, left: 0, top: 0, width: 0, height: 0 },
      axes: [{ show: false }, { show: false }],
      scales: {
        x: { time: false, range: () => [this.scene.t0, this.scene.t1] },
        y: { range: () => [0, this.top] },
      },
      series: [{}, ...this.series()],
      bands: this.spec.band ? [{ series: [2, 1], fill: () => this.band as CanvasPattern }] : [],
      hooks: { drawClear: [(u) => this.under(u)], draw: [(u) => this.over(u)] },
    };
  }

  private series(): uPlot.Series[] {
    const colour = this.theme?.colour as Theme["colour"];
    const edges = (this.spec.band ?? []).map(() => ({ stroke: colour.est, width: 0.7, points: { show: false } }));
    const lines = this.spec.lines.map((line) => ({
      stroke: colour[line.colour], width: line.width, dash: line.dash, points: { show: false },
      ...(line.metric === this.spec.area ? { fill: faded(colour.soft, 0.5) } : {}),
    }));
    return [...edges, ...lines];
  }

  private under(u: uPlot): void {
    if (!this.theme) return;
    const b = brush(u, this.theme, this.scene);
    paintGround(b);
    if (!this.spec.bare) paintLevels(b, this.top);
  }

  private over(u: uPlot): void {
    if (!this.theme) return;
    const axis = this.spec.bare ? null : { top: this.top, unit: this.spec.unit, few: this.height < 60 };
    paintOver(brush(u, this.theme, this.scene), axis, this.narrow);
  }
}

/** A resolved colour, partly transparent. */
function faded(colour: string, opacity: number): string {
  const parts = colour.match(/[\d.]+/g) ?? ["0", "0", "0"];
  return `rgba(${parts.slice(0, 3).join(",")},${opacity})`;
}
