// One picture in its frame: the canvas, what the pointer and the keys do to it, and the small map of the whole.

import { h, mark, say } from "../page/dom";
import { between, type Camera, fitting, showing, zoomAt } from "./camera";
import { groupTitle, label } from "./labels";
import { type Marks, paint, type Sketch, type Style } from "./paint";
import type { Item } from "./program";
import { t } from "./text";

/** What a stage tells the view. */
export interface Heard {
  picked(item: Item | null): void;
  /** Open or close the group that an item is or stands for. */
  toggled(item: Item): void;
  entered(): void;
}

/** With more in sight than this, frames are not drawn anew while things move: a picture of the whole is. */
const MANY = 2000;
const SETTLED = 110;
const GLIDE = 260;
const OVERVIEW = 2600;
const MAP = { w: 148, h: 104 };

export class Stage {
  readonly element: HTMLElement;
  readonly canvas: HTMLCanvasElement;
  readonly marks: Marks = { selected: null, hovered: null, found: null };
  camera: Camera = { x: 0, y: 0, scale: 1 };
  sketch: Sketch | null = null;
  /** How the last frame was drawn and how long it took; for the bench. */
  readonly frame = { ms: 0, exact: true };
  private style: Style | null = null;
  private readonly ctx: CanvasRenderingContext2D;
  private readonly tip = h("div", { class: "cmi-tip cml-s", hidden: "", "aria-hidden": "true" });
  private readonly wait = h("div", { class: "cmi-wait cml-s", hidden: "" });
  private readonly map = h("canvas", { class: "cmi-map", "aria-hidden": "true", hidden: "" });
  private whole: HTMLCanvasElement | null = null;
  private w = 0;
  private h = 0;
  private asked = 0;
  private settle: ReturnType<typeof setTimeout> | undefined;
  private glide = 0;
  private fitted = true;
  private readonly fingers = new Map<number, { x: number; y: number }>();

  constructor(name: string, private readonly still: () => boolean, private readonly heard: Heard, help: string, private readonly signal: AbortSignal) {
    this.canvas = h("canvas", { class: "cmi-canvas", tabindex: "0", role: "application", "aria-label": t("graph", name), "aria-describedby": help });
    this.ctx = this.canvas.getContext("2d", { alpha: false }) as CanvasRenderingContext2D;
    this.element = h("div", { class: "cmi-stage" }, this.canvas, this.map, this.wait, this.tip);
    this.listen();
    const watch = new ResizeObserver(() => this.resize());
    watch.observe(this.element);
    signal.addEventListener("abort", () => {
      watch.disconnect();
      clearTimeout(this.settle);
      cancelAnimationFrame(this.asked);
      cancelAnimationFrame(this.glide);
    });
  }

  get size(): { w: number; h: number } {
    return { w: this.w || 800, h: this.h || 480 };
  }

  /** Show a layout; an item that is named stays where it is on the screen. */
  show(sketch: Sketch, style: Style, anchor: { from: Item; to: Item } | null = null): void {
    const before = anchor && this.sketch?.rectOf(anchor.from);
    const after = anchor && sketch.rectOf(anchor.to);
    const first = !this.sketch;
    this.sketch = sketch;
    this.restyle(style);
    if (before && after && !this.fitted) this.camera = { ...this.camera, x: this.camera.x + after.x - before.x, y: this.camera.y + after.y - before.y };
    else if (first || this.fitted || !after) this.fit(false);
    this.resize();
    this.draw();
  }

  restyle(style: Style): void {
    this.style = style;
    this.whole = null;
    this.draw();
  }

  recolour(sketch: Sketch): void {
    this.sketch = sketch;
    this.whole = null;
    this.draw();
  }

  waiting(text: string): void {
    say(this.wait, text);
    this.wait.hidden = !text;
  }

  fit(smooth = true): void {
    const layout = this.sketch?.layout;
    if (!layout) return;
    this.fitted = true;
    this.go(fitting({ x: 0, y: 0, w: layout.w, h: layout.h }, this.size.w, this.size.h), smooth, true);
  }

  zoom(factor: number, at = { x: this.w / 2, y: this.h / 2 }): void {
    this.fitted = false;
    this.camera = zoomAt(this.camera, factor, at, this.least());
    this.moved();
  }

  /** Bring an item into sight, near enough to be read. */
  reveal(item: Item, near: boolean): void {
    const rect = this.sketch?.rectOf(item);
    if (!rect) return;
    this.fitted = false;
    const big = rect.w > 400 || rect.h > 400;
    this.go(big ? fitting(rect, this.w, this.h) : showing(this.camera, rect, this.w, this.h, near ? 0.7 : 0), true);
  }

  private least(): number {
    const layout = this.sketch?.layout;
    return layout ? Math.min(0.5, 0.7 * Math.min(this.w / layout.w, this.h / layout.h)) : 0.05;
  }

  private go(target: Camera, smooth: boolean, keep = false): void {
    cancelAnimationFrame(this.glide);
    if (!smooth || this.still()) {
      this.camera = target;
      this.draw();
      return;
    }
    const [from, start] = [this.camera, performance.now()];
    const stepped = (now: number) => {
      const share = Math.min(1, Math.max(0, (now - start) / GLIDE));
      this.camera = share < 1 ? between(from, target, share * (2 - share), this.w, this.h) : target;
      this.moved();
      if (keep) this.fitted = true;
      if (share < 1) this.glide = requestAnimationFrame(stepped);
    };
    this.glide = requestAnimationFrame(stepped);
  }

  private resize(): void {
    const box = this.element.getBoundingClientRect();
    const density = devicePixelRatio || 1;
    const [w, h0] = [Math.max(1, Math.floor(box.width)), Math.max(1, Math.floor(box.height))];
    if (w === this.w && h0 === this.h && this.canvas.width === w * density) return;
    const centre = { x: this.camera.x + this.w / 2 / this.camera.scale, y: this.camera.y + this.h / 2 / this.camera.scale };
    [this.w, this.h] = [w, h0];
    [this.canvas.width, this.canvas.height] = [w * density, h0 * density];
    if (this.fitted) this.fit(false);
    else this.camera = { ...this.camera, x: centre.x - w / 2 / this.camera.scale, y: centre.y - h0 / 2 / this.camera.scale };
    this.draw();
  }

  /** Something moves: draw fast, and in full when it stands again. */
  private moved(): void {
    this.request(true);
    clearTimeout(this.settle);
    this.settle = setTimeout(() => this.request(false), SETTLED);
  }

  draw(): void {
    this.request(false);
  }

  private fast = false;

  private request(fast: boolean): void {
    this.fast = fast;
    if (this.asked) return;
    this.asked = requestAnimationFrame(() => {
      this.asked = 0;
      this.render();
    });
  }

  private render(): void {
    const { sketch, style } = this;
    if (!sketch || !style || !this.w) return;
    const start = performance.now();
    const exact = !this.fast || sketch.count({ x: this.camera.x, y: this.camera.y, w: this.w / this.camera.scale, h: this.h / this.camera.scale }) < MANY;
    if (exact) paint(this.ctx, sketch, this.camera, this.w, this.h, devicePixelRatio || 1, style, this.marks);
    else this.rough(style);
    this.chart(style);
    Object.assign(this.frame, { ms: performance.now() - start, exact });
    this.element.dispatchEvent(new CustomEvent("cml:drawn", { bubbles: true, detail: { ...this.frame } }));
  }

  /** The picture of the whole, moved and scaled: blurred for the moment in which it moves. */
  private rough(style: Style): void {
    const whole = this.overview(style);
    const layout = this.sketch?.layout;
    if (!whole || !layout) return;
    const density = devicePixelRatio || 1;
    const { x, y, scale } = this.camera;
    this.ctx.setTransform(density, 0, 0, density, 0, 0);
    this.ctx.fillStyle = style.theme.colour.bg;
    this.ctx.fillRect(0, 0, this.w, this.h);
    this.ctx.drawImage(whole, -x * scale, -y * scale, layout.w * scale, layout.h * scale);
  }

  private overview(style: Style): HTMLCanvasElement | null {
    const { sketch } = this;
    if (!sketch || this.whole) return this.whole;
    const { w, h: high } = sketch.layout;
    const scale = Math.min(1, OVERVIEW / Math.max(w, high, 1));
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [Math.max(1, Math.round(w * scale)), Math.max(1, Math.round(high * scale))];
    const ctx = canvas.getContext("2d", { alpha: false });
    if (!ctx) return null;
    paint(ctx, sketch, { x: 0, y: 0, scale }, canvas.width, canvas.height, 1, style, { selected: null, hovered: null, found: this.marks.found });
    this.whole = canvas;
    return canvas;
  }

  /** The map in the corner, while less than most of the picture is seen. */
  private chart(style: Style): void {
    const layout = this.sketch?.layout;
    if (!layout) return;
    const seen = Math.min(1, this.w / this.camera.scale / layout.w) * Math.min(1, this.h / this.camera.scale / layout.h);
    this.map.hidden = seen > 0.6 || this.w < 420;
    if (this.map.hidden) return;
    const whole = this.overview(style);
    if (!whole) return;
    const scale = Math.min(MAP.w / layout.w, MAP.h / layout.h);
    const density = devicePixelRatio || 1;
    const [w, high] = [Math.max(8, layout.w * scale), Math.max(8, layout.h * scale)];
    if (this.map.width !== Math.round(w * density)) {
      [this.map.width, this.map.height] = [Math.round(w * density), Math.round(high * density)];
      this.map.setAttribute("style", `width:${w}px;height:${high}px`);
    }
    const ctx = this.map.getContext("2d", { alpha: false });
    if (!ctx) return;
    ctx.imageSmoothingQuality = "high";
    ctx.setTransform(density, 0, 0, density, 0, 0);
    ctx.drawImage(whole, 0, 0, w, high);
    ctx.strokeStyle = style.theme.colour.warn;
    ctx.lineWidth = 1.5;
    ctx.strokeRect(this.camera.x * scale, this.camera.y * scale, (this.w / this.camera.scale) * scale, (this.h / this.camera.scale) * scale);
  }

  select(item: Item | null): void {
    this.marks.selected = item;
    this.draw();
  }

  search(found: ReadonlySet<Item> | null): void {
    this.marks.found = found;
    this.whole = null;
    this.draw();
  }

  private world(event: { offsetX: number; offsetY: number }): { x: number; y: number } {
    return { x: this.camera.x + event.offsetX / this.camera.scale, y: this.camera.y + event.offsetY / this.camera.scale };
  }

  private under(event: { offsetX: number; offsetY: number }): Item | null {
    const at = this.world(event);
    return this.sketch?.at(at.x, at.y) ?? null;
  }

  private listen(): void {
    const { canvas, signal } = this;
    let way = 0;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button > 1) return;
      cancelAnimationFrame(this.glide);
      this.fingers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
      canvas.setPointerCapture(event.pointerId);
      way = 0;
    }, { signal });
    canvas.addEventListener("pointermove", (event) => {
      const before = this.fingers.get(event.pointerId);
      if (!before) return this.hover(event);
      const now = { x: event.offsetX, y: event.offsetY };
      way += Math.hypot(now.x - before.x, now.y - before.y);
      if (this.fingers.size > 1) this.pinch(event.pointerId, before, now);
      else if (way > 4) {
        this.fitted = false;
        this.camera = { ...this.camera, x: this.camera.x - (now.x - before.x) / this.camera.scale, y: this.camera.y - (now.y - before.y) / this.camera.scale };
        canvas.classList.add("cmi-drag");
        this.moved();
      }
      this.fingers.set(event.pointerId, now);
    }, { signal });
    const up = (event: PointerEvent) => {
      const held = this.fingers.delete(event.pointerId);
      canvas.classList.remove("cmi-drag");
      if (held && event.type === "pointerup" && way <= 4 && !this.fingers.size) this.heard.picked(this.under(event));
    };
    canvas.addEventListener("pointerup", up, { signal });
    canvas.addEventListener("pointercancel", up, { signal });
    canvas.addEventListener("pointerleave", () => this.leave(), { signal });
    canvas.addEventListener("dblclick", (event) => {
      const item = this.under(event);
      if (item !== null) this.heard.toggled(item);
    }, { signal });
    canvas.addEventListener("focus", () => this.heard.entered(), { signal });
    canvas.addEventListener("wheel", (event) => {
      // A page must scroll on past the picture: only with Ctrl (as a trackpad's pinch has it), or once it was clicked.
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas && canvas.getRootNode() === document) return;
      event.preventDefault();
      this.zoom(Math.exp(-Math.max(-80, Math.min(80, event.deltaY)) * (event.ctrlKey ? 0.012 : 0.004)), { x: event.offsetX, y: event.offsetY });
    }, { signal, passive: false });
    this.map.addEventListener("pointerdown", (event) => this.jump(event), { signal });
    this.map.addEventListener("pointermove", (event) => { if (event.buttons & 1) this.jump(event); }, { signal });
  }

  private jump(event: PointerEvent): void {
    const layout = this.sketch?.layout;
    if (!layout) return;
    this.fitted = false;
    const [x, y] = [(event.offsetX / this.map.clientWidth) * layout.w, (event.offsetY / this.map.clientHeight) * layout.h];
    this.camera = { ...this.camera, x: x - this.w / 2 / this.camera.scale, y: y - this.h / 2 / this.camera.scale };
    this.moved();
  }

  /** Two fingers: what lies under them stays under them. */
  private pinch(id: number, before: { x: number; y: number }, now: { x: number; y: number }): void {
    const other = [...this.fingers].find(([key]) => key !== id)?.[1];
    if (!other) return;
    const [was, is] = [Math.hypot(before.x - other.x, before.y - other.y), Math.hypot(now.x - other.x, now.y - other.y)];
    this.fitted = false;
    this.camera = zoomAt(this.camera, is / Math.max(was, 1), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 }, this.least());
    this.camera = { ...this.camera, x: this.camera.x - (now.x - before.x) / 2 / this.camera.scale, y: this.camera.y - (now.y - before.y) / 2 / this.camera.scale };
    this.moved();
  }

  private hover(event: PointerEvent): void {
    if (event.pointerType === "touch") return;
    const item = this.under(event);
    if (item !== this.marks.hovered) {
      this.marks.hovered = item;
      mark(this.canvas, "data-over", item === null ? null : "");
      this.draw();
    }
    this.point(item, event);
  }

  private point(item: Item | null, event: PointerEvent): void {
    const sketch = this.sketch;
    this.tip.hidden = item === null || !sketch;
    if (item === null || !sketch) return;
    const program = sketch.program;
    const box = program.nodes[item];
    const own = label(program, item);
    say(this.tip, box ? [box.name, box.op === box.kind ? "" : box.op, box.types[0] ?? "", sketch.byItem.get(item)?.look.tag ?? ""].filter(Boolean).join(" · ") : `${groupTitle(program, program.groupOf(item))} · ${own.sub}`);
    const left = Math.min(event.offsetX + 14, Math.max(8, this.w - this.tip.offsetWidth - 8));
    this.tip.style.transform = `translate(${left}px, ${Math.min(event.offsetY + 16, this.h - 30)}px)`;
  }

  private leave(): void {
    this.tip.hidden = true;
    if (this.marks.hovered === null) return;
    this.marks.hovered = null;
    this.draw();
  }
}
