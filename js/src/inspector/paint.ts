// The picture on a canvas: what is near is drawn in full, what is far as colour alone.

import type { Theme } from "../page/theme";
import type { Camera } from "./camera";
import type { Point } from "./chunk";
import type { Colouring, Look } from "./colours";
import { groupTitle, label, letters } from "./labels";
import type { Layout, Rect, Wire } from "./layout";
import type { Item, Program } from "./program";

/** Below the first, boxes are colour; below the second, wires are one thin web. */
export const [NEAR, FAR] = [0.42, 0.14];
const TILE = 640;
/** More wires than this in one sight are a web that nobody reads: only some are drawn. */
const MANY = 6000;

export interface Style {
  theme: Theme;
  palette: Record<string, string>;
  hatch: CanvasPattern | string;
}

export interface Marks {
  selected: Item | null;
  hovered: Item | null;
  /** What a search found; null without a search. */
  found: ReadonlySet<Item> | null;
}

interface Drawn {
  item: Item;
  rect: Rect;
  look: Look;
  title: string;
  sub: string;
  change: string;
}

/** A layout with its colours, ready to be drawn from anywhere. */
export class Sketch {
  readonly boxes: Drawn[];
  readonly byItem = new Map<Item, Drawn>();
  private readonly tiles = new Map<number, { boxes: number[]; wires: number[] }>();
  /** Wires that begin or end at each item. */
  private readonly touching = new Map<Item, number[]>();

  constructor(readonly program: Program, readonly layout: Layout, readonly colouring: Colouring, readonly open: ReadonlySet<number>) {
    this.boxes = [...layout.boxes].map(([item, rect]) => ({
      item, rect, look: colouring.look(item), ...label(program, item), change: program.isGroup(item) ? "" : colouring.change(item),
    }));
    this.boxes.forEach((box, i) => {
      this.byItem.set(box.item, box);
      this.spread(box.rect, (tile) => tile.boxes.push(i));
    });
    layout.wires.forEach((wire, i) => {
      // Piece by piece: around the whole of a long line lie all tiles of the picture.
      for (let k = 1; k < wire.points.length; k++) {
        this.spread(around(wire.points[k - 1] as Point, wire.points[k] as Point), (tile) => { if (tile.wires[tile.wires.length - 1] !== i) tile.wires.push(i); });
      }
      for (const item of new Set([wire.from, ...wire.to])) {
        const list = this.touching.get(item);
        if (list) list.push(i);
        else this.touching.set(item, [i]);
      }
    });
  }

  private spread(rect: Rect, put: (tile: { boxes: number[]; wires: number[] }) => void): void {
    for (let x = Math.floor(rect.x / TILE); x <= Math.floor((rect.x + rect.w) / TILE); x++) {
      for (let y = Math.floor(rect.y / TILE); y <= Math.floor((rect.y + rect.h) / TILE); y++) {
        const key = tileAt(x, y);
        const tile = this.tiles.get(key) ?? { boxes: [], wires: [] };
        this.tiles.set(key, tile);
        put(tile);
      }
    }
  }

  /** What lies in a part of the picture. */
  within(view: Rect): { boxes: Drawn[]; wires: Wire[] } {
    const all = view.w * view.h > 0.6 * Math.max(1, this.layout.w * this.layout.h);
    if (all) return { boxes: this.boxes, wires: this.layout.wires };
    const [boxes, wires] = [new Set<number>(), new Set<number>()];
    for (let x = Math.floor(view.x / TILE); x <= Math.floor((view.x + view.w) / TILE); x++) {
      for (let y = Math.floor(view.y / TILE); y <= Math.floor((view.y + view.h) / TILE); y++) {
        const tile = this.tiles.get(tileAt(x, y));
        tile?.boxes.forEach((i) => boxes.add(i));
        tile?.wires.forEach((i) => wires.add(i));
      }
    }
    return { boxes: [...boxes].map((i) => this.boxes[i] as Drawn), wires: [...wires].map((i) => this.layout.wires[i] as Wire) };
  }

  /** About how much lies in a part of the picture. */
  count(view: Rect): number {
    const all = Math.max(1, this.layout.w * this.layout.h);
    return (this.boxes.length + this.layout.wires.length) * Math.min(1, (Math.min(view.w, this.layout.w) * Math.min(view.h, this.layout.h)) / all);
  }

  /** The box at a place, else the smallest open group around it. */
  at(x: number, y: number): Item | null {
    const tile = this.tiles.get(tileAt(Math.floor(x / TILE), Math.floor(y / TILE)));
    for (const i of tile?.boxes ?? []) {
      const box = this.boxes[i] as Drawn;
      if (inside(box.rect, x, y)) return box.item;
    }
    const frames = this.layout.frames.filter((f) => inside(f.rect, x, y) && y < f.rect.y + 30);
    frames.sort((a, b) => a.rect.w * a.rect.h - b.rect.w * b.rect.h);
    return frames[0] ? this.program.itemOf(frames[0].group) : null;
  }

  rectOf(item: Item): Rect | null {
    return this.byItem.get(item)?.rect ?? this.layout.frames.find((f) => this.program.itemOf(f.group) === item)?.rect ?? null;
  }

  wiresOf(item: Item): Wire[] {
    return (this.touching.get(item) ?? []).map((i) => this.layout.wires[i] as Wire);
  }
}

function tileAt(x: number, y: number): number {
  return x * 65_536 + y;
}

function inside(rect: Rect, x: number, y: number): boolean {
  return x >= rect.x && x <= rect.x + rect.w && y >= rect.y && y <= rect.y + rect.h;
}

function around(a: Point, b: Point): Rect {
  return { x: Math.min(a.x, b.x), y: Math.min(a.y, b.y), w: Math.abs(a.x - b.x), h: Math.abs(a.y - b.y) };
}

/** Draw what a camera sees into a canvas of `w` by `h` CSS pixels, `density` real ones each. */
export function paint(ctx: CanvasRenderingContext2D, sketch: Sketch, camera: Camera, w: number, h: number, density: number, style: Style, marks: Marks): void {
  const { scale } = camera;
  ctx.setTransform(density, 0, 0, density, 0, 0);
  ctx.fillStyle = style.theme.colour.bg;
  ctx.fillRect(0, 0, w, h);
  ctx.setTransform(density * scale, 0, 0, density * scale, -camera.x * scale * density, -camera.y * scale * density);
  const seen = sketch.within({ x: camera.x, y: camera.y, w: w / scale, h: h / scale });
  frames(ctx, sketch, scale, style, marks);
  web(ctx, seen.wires, scale, style);
  if (scale < NEAR) far(ctx, seen.boxes, scale, style, marks);
  else for (const box of seen.boxes) near(ctx, box, style, marks);
  chosen(ctx, sketch, scale, style, marks);
  ctx.setTransform(1, 0, 0, 1, 0, 0);
}

function frames(ctx: CanvasRenderingContext2D, sketch: Sketch, scale: number, style: Style, marks: Marks): void {
  const { colour } = style.theme;
  sketch.layout.frames.forEach(({ group, rect }) => {
    ctx.fillStyle = colour.shade;
    round(ctx, rect, 8);
    ctx.fill();
    const own = sketch.program.itemOf(group);
    ctx.strokeStyle = marks.selected === own || marks.hovered === own ? colour.tx : colour.ln1;
    ctx.lineWidth = (marks.selected === own ? 2 : 1) / scale;
    ctx.stroke();
    if (scale < FAR * 1.6) return;
    ctx.fillStyle = colour.tx2;
    ctx.font = `600 12px ${family(style)}`;
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    ctx.fillText(`− ${groupTitle(sketch.program, group)}`, rect.x + 10, rect.y + 14, Math.max(10, rect.w - 20));
  });
}

function web(ctx: CanvasRenderingContext2D, wires: Wire[], scale: number, style: Style): void {
  const { colour } = style.theme;
  const every = scale < FAR && wires.length > MANY ? Math.ceil(wires.length / MANY) : 1;
  ctx.strokeStyle = colour.all;
  ctx.globalAlpha = scale < FAR ? 0.45 : 0.75;
  ctx.lineWidth = scale < NEAR ? 0.8 / scale : 1.1;
  ctx.beginPath();
  for (let i = 0; i < wires.length; i += every) trace(ctx, wires[i] as Wire, scale >= NEAR ? 5 : 0);
  ctx.stroke();
  if (scale >= NEAR * 0.8) {
    ctx.fillStyle = colour.all;
    ctx.beginPath();
    for (const wire of wires) if (wire.head) arrow(ctx, wire);
    ctx.fill();
  }
  ctx.globalAlpha = 1;
}

/** A line with rounded corners. */
function trace(ctx: CanvasRenderingContext2D, wire: Wire, radius: number): void {
  const points = wire.points;
  const first = points[0];
  if (!first) return;
  ctx.moveTo(first.x, first.y);
  for (let i = 1; i < points.length; i++) {
    const [p, next] = [points[i] as { x: number; y: number }, points[i + 1]];
    if (radius && next) {
      const before = points[i - 1] as { x: number; y: number };
      const room = Math.min(Math.hypot(p.x - before.x, p.y - before.y), Math.hypot(next.x - p.x, next.y - p.y)) / 2;
      ctx.arcTo(p.x, p.y, next.x, next.y, Math.min(radius, room));
    } else ctx.lineTo(p.x, p.y);
  }
}

function arrow(ctx: CanvasRenderingContext2D, wire: Wire): void {
  const tip = wire.points[wire.points.length - 1];
  const before = wire.points[wire.points.length - 2];
  if (!tip || !before) return;
  const length = Math.hypot(tip.x - before.x, tip.y - before.y) || 1;
  const [ux, uy] = [(tip.x - before.x) / length, (tip.y - before.y) / length];
  ctx.moveTo(tip.x, tip.y);
  ctx.lineTo(tip.x - ux * 6 - uy * 3, tip.y - uy * 6 + ux * 3);
  ctx.lineTo(tip.x - ux * 6 + uy * 3, tip.y - uy * 6 - ux * 3);
  ctx.closePath();
}

/** All boxes of one colour at once: thousands are as many rectangles, and no more. */
function far(ctx: CanvasRenderingContext2D, boxes: Drawn[], scale: number, style: Style, marks: Marks): void {
  const heaps = new Map<string, Drawn[]>();
  for (const box of boxes) {
    const dim = marks.found && !marks.found.has(box.item);
    const key = `${dim ? "-" : "+"}${box.look.colour ?? (box.look.known ? "" : "?")}`;
    const heap = heaps.get(key);
    if (heap) heap.push(box);
    else heaps.set(key, [box]);
  }
  const least = 1.2 / scale;
  for (const [key, heap] of heaps) {
    const colour = key.slice(1);
    ctx.globalAlpha = key[0] === "-" ? 0.2 : 1;
    ctx.fillStyle = colour === "?" ? style.hatch : colour ? (style.palette[colour] ?? style.theme.colour.all) : style.theme.colour.ln;
    ctx.beginPath();
    for (const { rect } of heap) ctx.rect(rect.x, rect.y, Math.max(rect.w, least), Math.max(rect.h, least));
    ctx.fill();
    if (colour === "?") {
      ctx.strokeStyle = style.theme.colour.all;
      ctx.lineWidth = 0.8 / scale;
      ctx.stroke();
    }
  }
  ctx.globalAlpha = 1;
  if (scale > FAR * 1.8) for (const box of boxes) if (box.rect.h * scale > 9) word(ctx, box, scale, style);
}

/** The type of operation alone, as large as the box allows. */
function word(ctx: CanvasRenderingContext2D, box: Drawn, scale: number, style: Style): void {
  const size = Math.min(box.rect.h * 0.62, (box.rect.w * 0.9) / Math.max(3, letters(box.title) * 0.64));
  if (size * scale < 6) return;
  const fill = box.look.colour ? style.palette[box.look.colour] : undefined;
  ctx.fillStyle = fill ? ink(fill) : style.theme.colour.tx;
  ctx.font = `600 ${size}px ${family(style)}`;
  ctx.textAlign = "center";
  ctx.textBaseline = "middle";
  ctx.fillText(box.title, box.rect.x + box.rect.w / 2, box.rect.y + box.rect.h / 2);
}

function near(ctx: CanvasRenderingContext2D, box: Drawn, style: Style, marks: Marks): void {
  const { rect, look } = box;
  const { colour } = style.theme;
  ctx.globalAlpha = marks.found && !marks.found.has(box.item) ? 0.28 : 1;
  const fill = look.colour ? (style.palette[look.colour] ?? colour.all) : null;
  if (look.group) {
    // One card upon another: there is more in it.
    round(ctx, { ...rect, x: rect.x + 4, y: rect.y - 4 }, 5);
    ctx.fillStyle = colour.bg;
    ctx.fill();
    ctx.lineWidth = 1;
    ctx.strokeStyle = fill ?? colour.ln1;
    ctx.stroke();
  }
  round(ctx, rect, 5);
  ctx.fillStyle = colour.bg;
  ctx.fill();
  if (fill) {
    ctx.save();
    ctx.globalAlpha *= style.theme.dark ? 0.3 : 0.2;
    ctx.fillStyle = fill;
    ctx.fill();
    ctx.restore();
  } else if (!look.known) {
    ctx.fillStyle = style.hatch;
    ctx.fill();
  }
  ctx.lineWidth = 1.2;
  ctx.strokeStyle = fill ?? (look.known ? colour.ln1 : colour.all);
  ctx.setLineDash(look.known ? [] : [3, 3]);
  ctx.stroke();
  ctx.setLineDash([]);
  if (fill) {
    ctx.save();
    ctx.clip();
    ctx.fillStyle = fill;
    ctx.fillRect(rect.x, rect.y, 4, rect.h);
    if (look.parts) bar(ctx, box, style);
    ctx.restore();
  }
  words(ctx, box, style);
  ctx.globalAlpha = 1;
}

/** Of a closed group: how much of it has which colour. */
function bar(ctx: CanvasRenderingContext2D, box: Drawn, style: Style): void {
  let x = box.rect.x;
  for (const [colour, share] of box.look.parts ?? []) {
    ctx.fillStyle = style.palette[colour] ?? style.theme.colour.all;
    ctx.fillRect(x, box.rect.y + box.rect.h - 6, box.rect.w * share, 6);
    x += box.rect.w * share;
  }
}

function words(ctx: CanvasRenderingContext2D, box: Drawn, style: Style): void {
  const { rect, look } = box;
  const colour = style.theme.colour;
  const middle = rect.y + (look.group ? rect.h - 6 : rect.h) / 2;
  ctx.textBaseline = "middle";
  ctx.textAlign = "left";
  let room = rect.w - 18;
  if (look.tag) {
    ctx.font = `10px ${family(style)}`;
    const wide = ctx.measureText(look.tag).width;
    ctx.textAlign = "right";
    ctx.fillStyle = colour.tx2;
    ctx.fillText(look.tag, rect.x + rect.w - 7, middle - 8);
    ctx.textAlign = "left";
    room -= wide + 6;
  }
  ctx.font = `600 12px ${family(style)}`;
  ctx.fillStyle = colour.tx;
  ctx.fillText(box.title, rect.x + 11, middle - 7, Math.max(20, room));
  ctx.font = `10.5px ${family(style)}`;
  ctx.fillStyle = colour.tx2;
  ctx.fillText(box.sub, rect.x + 11, middle + 8, rect.w - 18);
}

function chosen(ctx: CanvasRenderingContext2D, sketch: Sketch, scale: number, style: Style, marks: Marks): void {
  const { colour } = style.theme;
  if (marks.selected !== null) {
    const wires = sketch.wiresOf(marks.selected);
    ctx.lineWidth = Math.max(2, 1.6 / scale);
    for (const coming of [true, false]) {
      ctx.strokeStyle = ctx.fillStyle = coming ? colour.move : colour.cpu;
      ctx.beginPath();
      const own = wires.filter((wire) => (wire.from === marks.selected) !== coming);
      for (const wire of own) trace(ctx, wire, scale >= NEAR ? 5 : 0);
      ctx.stroke();
      ctx.beginPath();
      for (const wire of own) if (wire.head) arrow(ctx, wire);
      ctx.fill();
    }
  }
  for (const [item, width] of [[marks.hovered, 1.5], [marks.selected, 2.5]] as const) {
    const rect = item === null ? null : sketch.byItem.get(item)?.rect;
    if (!rect) continue;
    const grown = { x: rect.x - 3 / scale, y: rect.y - 3 / scale, w: rect.w + 6 / scale, h: rect.h + 6 / scale };
    ctx.strokeStyle = colour.tx;
    ctx.lineWidth = width / scale;
    round(ctx, grown, 7);
    ctx.stroke();
  }
}

export function round(ctx: CanvasRenderingContext2D, rect: Rect, radius: number): void {
  ctx.beginPath();
  ctx.roundRect(rect.x, rect.y, rect.w, rect.h, radius);
}

/** Black or white, whichever reads better on a colour like #0072b2. */
export function ink(fill: string): string {
  const hex = fill.length === 4 ? fill.replace(/[^#]/g, "$&$&") : fill;
  const [r, g, b] = [1, 3, 5].map((i) => (parseInt(hex.slice(i, i + 2), 16) / 255) ** 2.2) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.22 ? "#000" : "#fff";
}

function family(style: Style): string {
  return style.theme.font.replace(/^12px /, "");
}
