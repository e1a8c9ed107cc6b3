// The view Timeline: the last traced run's operations per device, zoomable; a click tells everything about one.

import type { Desk, Told } from "../data/desk";
import { h, mark, say } from "../page/dom";
import { opFacts } from "./detail";
import { count, fixed, fitting, show } from "../text/format";
import { matches } from "./grouping";
import { kindOf, laneOf } from "./kinds";
import type { OpRow } from "../data/messages";
import { type Paint, type PaintBy, paints } from "./paint";
import { button, choice } from "../page/parts";
import type { Panel } from "../page/tabs";
import { t } from "../text/text";
import { hatch, type Theme } from "../page/theme";
import { axis, moved, type Range, showing, under, zoomed } from "./zoom";

const HEIGHT = 34;
const AXIS = 22;
const OVERVIEW = 18;
const GUTTER = 216;
const RIGHT = 12;
/** Pixels: what is narrower has no name in it, and gaps narrower have no hatch. */
const NAMED = 34;
const GAP = 5;

interface Lane {
  title: string;
  has: (place: number) => boolean;
  canvas: HTMLCanvasElement;
}

export class Timeline implements Panel {
  readonly id = "timeline";
  readonly element: HTMLElement;
  private readonly head = h("span", { class: "cml-s" });
  private readonly shown = h("span", { class: "cml-s cml-m" });
  private readonly tracks = h("div", { class: "cml-tracks", tabindex: "0", role: "group", "aria-label": t("track") });
  private readonly detail = h("div", { class: "cml-detailbox", "aria-live": "polite" });
  private readonly foot = h("div", { class: "cml-tools cml-tlfoot" });
  private lanes: Lane[] = [];
  private overview = h("canvas");
  private ruler = h("canvas");
  /** The recording with the run that is shown. */
  private drawn: Told | null = null;
  private told: Told | null = null;
  private readonly runs = h("select", { class: "cml-search cml-runs", "aria-label": t("whichRun") });
  private range: Range = { t0: 0, t1: 1 };
  /** Which block is chosen, or -1. */
  private chosen = -1;
  private theme: Theme | null = null;
  private width = 0;
  private narrow = false;
  readonly search = h("input", { type: "search", class: "cml-search", placeholder: t("searchKey"), "aria-label": t("search") });
  private readonly hits = h("span", { class: "cml-s cml-m", "aria-live": "polite" });
  private readonly legend = h("span", { class: "cml-keys cml-s" });
  /** Which rows the search finds; null where nothing is sought. */
  private hit: boolean[] | null = null;
  private by: PaintBy = "device";
  private of: (row: OpRow) => Paint = () => ({ role: "cpu", weight: 1 });

  /** `neural` is why nothing of a Neural Engine is here, where that is known. */
  constructor(private readonly desk: Desk, private readonly neural: () => string | undefined) {
    const buttons = h("span", { class: "cml-choice", role: "group", "aria-label": t("fit") },
      button("−", () => this.zoom(0.5), ""), button(t("fit"), () => this.fit(), ""), button("+", () => this.zoom(2), ""));
    mark(buttons.firstElementChild as Element, "aria-label", t("zoomOut"));
    mark(buttons.lastElementChild as Element, "aria-label", t("zoomIn"));
    const bar = h("div", { class: "cml-tools" }, this.head, this.runs, h("span", { class: "cml-sp" }), this.shown, this.hits, this.search, buttons);
    const by = choice(t("colourBy"), [["device", t("byDevice")], ["type", t("byType")], ["provenance", t("byMark")]], "device",
      (value) => { this.by = value as PaintBy; this.paint(); this.draw(); });
    this.foot.append(h("span", { class: "cml-s cml-m" }, t("colourBy")), by.element, this.legend);
    this.element = h("div", { class: "cml-view" }, bar, this.tracks, this.foot, this.detail);
    this.runs.addEventListener("change", () => this.open(Number(this.runs.value)));
    this.search.addEventListener("input", () => this.find(0));
    this.search.addEventListener("keydown", (event) => { if (event.key === "Enter") this.find(1); });
    this.tracks.addEventListener("keydown", (event) => this.keyed(event));
    this.pointer();
  }

  /** Colours or width changed. */
  layout(theme: Theme, width: number, narrow: boolean): void {
    this.theme = theme;
    this.width = width;
    this.narrow = narrow;
    this.draw();
  }

  update(): void {
    const told = this.desk.last;
    if (told === this.told && told) return;
    this.told = this.drawn = told;
    this.chosen = -1;
    const tracks = told?.tracks ?? [];
    this.runs.replaceChildren(...tracks.map(({ run, length }, i) => h("option", { value: String(i) }, t("runOf", count(run + 1), show(length, "s")))));
    this.runs.hidden = tracks.length < 2;
    this.foot.hidden = this.search.hidden = !told?.spans.length;
    if (!told || !told.spans.length) {
      this.tracks.replaceChildren(h("p", { class: "cml-empty" }, t("nothing")));
      this.detail.replaceChildren();
      this.lanes = [];
      say(this.head, "");
      say(this.shown, "");
      return;
    }
    this.hit = this.search.value ? told.ops.map((row) => matches(row, this.search.value)) : null;
    this.open(0);
  }

  /** Show one of the traced runs, the last one first. */
  private open(place: number): void {
    const { told } = this;
    const [track, spans] = [told?.tracks[place], told?.spansOf?.[place]];
    if (!told) return;
    this.drawn = track && spans ? { ...told, spans, length: track.length } : told;
    this.chosen = -1;
    this.build(this.drawn);
    this.paint();
    this.range = { t0: 0, t1: this.whole };
    this.draw();
    this.tell();
  }

  /** Show the block of an operation, wherever it was chosen. */
  choose(place: number): void {
    this.update();
    const spans = this.drawn?.spans ?? new Float64Array(0);
    for (let i = 0; i < spans.length; i += 3) {
      if (spans[i] === place) { this.select(i / 3); return; }
    }
  }

  /** What the search finds is drawn in full; `step` 1 goes to the next of it. */
  private find(step: number): void {
    const told = this.drawn;
    if (!told) return;
    this.hit = this.search.value ? told.ops.map((row) => matches(row, this.search.value)) : null;
    const found = this.found(told);
    say(this.hits, this.search.value ? t("found2", count(found.length)) : "");
    if (step && found.length) this.select(found.find((i) => i > this.chosen) ?? (found[0] as number));
    else this.draw();
  }

  /** Places in `spans` of what the search finds. */
  private found(told: Told): number[] {
    const out: number[] = [];
    for (let i = 0; i < told.spans.length; i += 3) if (!this.hit || this.hit[told.spans[i] as number]) out.push(i / 3);
    return out;
  }

  private paint(): void {
    if (!this.drawn) return;
    const made = paints(this.drawn, this.by);
    this.of = made.of;
    this.legend.replaceChildren(...made.keys.map(({ role, text }) => h("span", { class: "cml-key" }, h("i", { class: "cml-dot", style: `background:var(--${role})` }), text)));
    if (this.by === "device") this.legend.append(h("span", { class: "cml-key cml-m" }, ...[1, 0.65, 0.38].map((o) => h("i", { class: "cml-dot", style: `background:var(--all);opacity:${o}` })), `${t("heavy")}, ${t("middle")}, ${t("light")}`));
  }

  private get whole(): number {
    const spans = this.drawn?.spans ?? new Float64Array(0);
    let end = this.drawn?.length ?? 0;
    for (let i = 0; i < spans.length; i += 3) end = Math.max(end, (spans[i + 1] as number) + (spans[i + 2] as number));
    return end || 1;
  }

  private build(told: Told): void {
    const seen = new Set<number>();
    for (let i = 0; i < told.spans.length; i += 3) seen.add(told.spans[i] as number);
    const groups = new Map<string, Set<number>>();
    for (const place of seen) {
      const row = told.ops[place];
      if (!row) continue;
      const title = kindOf(row) === "transfer" ? t("transfers") : laneOf(row);
      groups.set(title, (groups.get(title) ?? new Set()).add(place));
    }
    this.lanes = [...groups].map(([title, places]) => ({ title, has: (place) => places.has(place), canvas: h("canvas") }));
    this.overview = h("canvas");
    this.ruler = h("canvas");
    const row = (gutter: (Node | string)[], canvas: HTMLCanvasElement, css: string) =>
      h("div", { class: `cml-lane ${css}` }, h("div", { class: "cml-lanet cml-s" }, ...gutter), canvas);
    const sums = this.sums(told);
    const busy = [...sums.values()].reduce((all, value) => all + value, 0);
    const left = Math.max(0, told.length - busy);
    this.tracks.replaceChildren(
      row([h("span", { class: "cml-m" }, t("fit"))], this.overview, "cml-over"), row([], this.ruler, "cml-ruler"),
      ...this.lanes.map((lane) => row([h("b", {}, lane.title), h("span", {}, show(sums.get(lane.title) ?? 0, "s"))], lane.canvas, "")));
    const why = this.neural();
    if (why) {
      this.tracks.append(h("div", { class: "cml-lane cml-nolane" }, h("div", { class: "cml-lanet cml-s" }, h("b", {}, t("neural")), h("span", { class: "cml-m" }, t("unavailable"))),
        h("div", { class: "cml-missing", title: why }, h("span", {}, why))));
    }
    say(this.head, `${told.name}: ${show(told.length, "s")}, ${t("between")} ${show(left, "s")}`);
  }

  private sums(told: Told): Map<string, number> {
    const sums = new Map<string, number>();
    for (const lane of this.lanes) {
      let all = 0;
      for (let i = 0; i < told.spans.length; i += 3) if (lane.has(told.spans[i] as number)) all += told.spans[i + 2] as number;
      sums.set(lane.title, all);
    }
    return sums;
  }

  private draw(): void {
    const { theme, drawn } = this;
    if (!theme || !drawn || !this.width || !this.lanes.length) return;
    const width = Math.max(120, this.width - (this.narrow ? 20 : GUTTER + RIGHT));
    this.drawOverview(drawn, theme, width);
    this.drawRuler(theme, width);
    for (const lane of this.lanes) this.drawLane(drawn, lane, theme, width);
    say(this.shown, t("shown", show(this.range.t0, "s"), show(this.range.t1, "s"), show(this.whole, "s")));
  }

  private drawOverview(told: Told, theme: Theme, width: number): void {
    const ctx = context(this.overview, width, OVERVIEW);
    const each = OVERVIEW / this.lanes.length;
    const scale = width / this.whole;
    this.lanes.forEach((lane, k) => {
      blocks(told, lane, (place, start, length) => {
        const row = told.ops[place];
        if (row) ctx.fillStyle = theme.colour[this.of(row).role];
        ctx.globalAlpha = 0.7;
        ctx.fillRect(start * scale, k * each + 0.5, Math.max(0.5, length * scale), each - 1);
      });
    });
    ctx.globalAlpha = 1;
    ctx.strokeStyle = theme.colour.tx;
    const { t0, t1 } = this.range;
    ctx.strokeRect(t0 * scale + 0.5, 0.5, Math.max(2, (t1 - t0) * scale - 1), OVERVIEW - 1);
  }

  private drawRuler(theme: Theme, width: number): void {
    const ctx = context(this.ruler, width, AXIS);
    ctx.font = theme.font;
    ctx.fillStyle = theme.colour.tx2;
    ctx.strokeStyle = theme.colour.ln1;
    const marks = axis(this.range, width / 90);
    const unit = fitting(this.range.t1, "s");
    const step = ((marks[1] ?? this.range.t1) - (marks[0] ?? 0)) / unit.divisor;
    const decimals = Math.min(6, Math.max(0, -Math.floor(Math.log10(step || 1) + 1e-9)));
    for (const moment of marks) {
      const x = this.x(moment, width);
      const text = `${fixed(moment / unit.divisor, decimals)} ${unit.unit}`;
      const half = ctx.measureText(text).width / 2;
      ctx.fillText(text, Math.min(Math.max(0, x - half), width - 2 * half), 12);
      ctx.fillRect(x, 16, 1, 6);
    }
  }

  private drawLane(told: Told, lane: Lane, theme: Theme, width: number): void {
    const ctx = context(lane.canvas, width, HEIGHT);
    ctx.font = theme.font;
    const gap = hatch(theme.colour.all, 0.5, false, devicePixelRatio || 1);
    let before = this.range.t0;
    blocks(told, lane, (place, start, length, index) => {
      const [a, b] = [this.x(start, width), this.x(start + length, width)];
      const free = this.x(before, width);
      if (a - free >= GAP && a > 0 && free < width) this.patch(ctx, gap, Math.max(0, free), Math.min(width, a));
      before = Math.max(before, start + length);
      if (b < 0 || a > width) return;
      this.block(ctx, told, place, Math.max(-1, a), Math.min(width + 1, b), theme, index === this.chosen);
    });
    mark(lane.canvas, "role", "img");
    mark(lane.canvas, "aria-label", lane.title);
  }

  private patch(ctx: CanvasRenderingContext2D, pattern: CanvasPattern | string, a: number, b: number): void {
    ctx.fillStyle = pattern;
    ctx.globalAlpha = 0.6;
    ctx.fillRect(a + 1, 8, b - a - 2, HEIGHT - 16);
    ctx.globalAlpha = 1;
  }

  private block(ctx: CanvasRenderingContext2D, told: Told, place: number, a: number, b: number, theme: Theme, chosen: boolean): void {
    const row = told.ops[place];
    if (!row) return;
    const { role, weight } = this.of(row);
    const heavy = this.hit && !this.hit[place] ? 0.12 : weight;
    const wide = Math.max(1, b - a - (b - a > 3 ? 1 : 0));
    ctx.fillStyle = theme.colour.bg;
    ctx.fillRect(a, 4, wide, HEIGHT - 8);
    ctx.globalAlpha = heavy;
    ctx.fillStyle = theme.colour[role];
    ctx.fillRect(a, 4, wide, HEIGHT - 8);
    ctx.globalAlpha = 1;
    if (chosen) {
      ctx.strokeStyle = theme.colour.tx;
      ctx.lineWidth = 2;
      ctx.strokeRect(a + 1, 4, Math.max(1, wide - 2), HEIGHT - 8);
    }
    if (wide < NAMED) return;
    ctx.save();
    ctx.beginPath();
    ctx.rect(a, 0, wide - 3, HEIGHT);
    ctx.clip();
    ctx.fillStyle = (heavy > 0.5) !== theme.dark ? "#fff" : theme.dark && heavy > 0.5 ? "#111" : theme.colour.tx;
    ctx.fillText(row.node, Math.max(a, 0) + 5, HEIGHT / 2 + 4);
    ctx.restore();
  }

  private x(moment: number, width: number): number {
    return ((moment - this.range.t0) / (this.range.t1 - this.range.t0)) * width;
  }

  private zoom(factor: number, around?: number): void {
    this.range = zoomed(this.range, factor, around ?? (this.range.t0 + this.range.t1) / 2, this.whole);
    this.draw();
  }

  private fit(): void {
    this.range = { t0: 0, t1: this.whole };
    this.draw();
  }

  private keyed(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.drawn) return;
    const count = this.drawn.spans.length / 3;
    const actions: Record<string, () => void> = {
      "+": () => this.zoom(2), "=": () => this.zoom(2), "-": () => this.zoom(0.5), "0": () => this.fit(),
      ArrowRight: () => this.select(Math.min(count - 1, this.chosen + 1)), ArrowLeft: () => this.select(Math.max(0, this.chosen - 1)),
      Home: () => this.select(0), End: () => this.select(count - 1),
    };
    const action = actions[event.key];
    if (!action || !count) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  private select(index: number): void {
    const spans = this.drawn?.spans;
    if (!spans || index < 0) return;
    this.chosen = index;
    const start = spans[index * 3 + 1] as number;
    this.range = showing(this.range, start, start + (spans[index * 3 + 2] as number), this.whole);
    this.draw();
    this.tell();
  }

  private tell(): void {
    const told = this.drawn;
    const row = told && this.chosen >= 0 ? told.ops[told.spans[this.chosen * 3] as number] : undefined;
    if (!told || !row) this.detail.replaceChildren(h("p", { class: "cml-s cml-m" }, t("choose")));
    else this.detail.replaceChildren(...opFacts(told, row, told.spans[this.chosen * 3 + 2] as number));
  }

  private pointer(): void {
    let from: { x: number; range: Range; far: boolean; canvas: HTMLCanvasElement } | null = null;
    const seconds = (canvas: HTMLCanvasElement) => (this.range.t1 - this.range.t0) / (canvas.clientWidth || 1);
    this.tracks.addEventListener("pointerdown", (event) => {
      if (event.target instanceof HTMLCanvasElement) from = { x: event.clientX, range: this.range, far: false, canvas: event.target };
    });
    this.tracks.addEventListener("pointermove", (event) => {
      if (!from || !(event.buttons & 1)) { from = null; return; }
      if (Math.abs(event.clientX - from.x) > 3) from.far = true;
      if (!from.far) return;
      const sign = from.canvas === this.overview ? this.whole / (this.overview.clientWidth || 1) : -seconds(from.canvas);
      this.range = moved(from.range, (event.clientX - from.x) * sign, this.whole);
      this.draw();
    });
    this.tracks.addEventListener("pointerup", (event) => {
      const lane = this.lanes.find((each) => each.canvas === event.target);
      if (lane && from && !from.far && this.drawn) {
        const moment = this.range.t0 + event.offsetX * seconds(lane.canvas);
        this.select(under(this.drawn.spans, lane.has, moment, 4 * seconds(lane.canvas)));
      }
      from = null;
    });
    this.tracks.addEventListener("wheel", (event) => {
      // The bare wheel scrolls the notebook.
      if (!event.ctrlKey || !(event.target instanceof HTMLCanvasElement)) return;
      event.preventDefault();
      this.zoom(event.deltaY < 0 ? 1.4 : 1 / 1.4, this.range.t0 + event.offsetX * seconds(event.target));
    }, { passive: false });
  }
}

function blocks(told: Told, lane: Lane, each: (place: number, start: number, length: number, index: number) => void): void {
  for (let i = 0; i < told.spans.length; i += 3) {
    const place = told.spans[i] as number;
    if (lane.has(place)) each(place, told.spans[i + 1] as number, told.spans[i + 2] as number, i / 3);
  }
}

/** A canvas of so many CSS pixels, empty. */
function context(canvas: HTMLCanvasElement, width: number, height: number): CanvasRenderingContext2D {
  const scale = devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const ctx = canvas.getContext("2d") as CanvasRenderingContext2D;
  ctx.setTransform(scale, 0, 0, scale, 0, 0);
  return ctx;
}
