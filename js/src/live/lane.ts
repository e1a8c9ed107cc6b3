// The last strip: which cells ran, what went wrong, and the time axis that all strips share.

import { h, mark, say, svg } from "../page/dom";
import { ago, count } from "../text/format";
import { swatch } from "../page/icons";
import type { CellEvent, IncidentEvent } from "../data/messages";
import { LEFT, LEFT_NARROW, RIGHT, type Scene } from "./scene";
import { said } from "../text/said";
import { t as text } from "../text/text";

const HEIGHT = 68;
const AXIS = 48;
/** Widths of a character in the code font (11.5 px) and in the interface font (12 px). */
const CODE = 7.1;
const TEXT = 6.4;
/** Room that the label of the cursor takes on the axis. */
const CURSOR = 58;

export class Lane {
  readonly gutter: HTMLElement;
  readonly element: HTMLElement;
  private readonly number = h("b", { class: "cml-num" });
  private readonly unit = h("small");
  private readonly drawing = svg("svg", { height: HEIGHT, role: "img", "aria-label": text("cells") });

  private readonly ticks = svg("g");
  private readonly bars = new Map<string, Mover<CellEvent>>();
  private readonly signs = new Map<string, Mover<IncidentEvent>>();
  private axisKey = "";

  constructor() {
    this.drawing.append(this.ticks);
    const title = h("div", { class: "cml-t" }, h("h3", {}, text("cells")), h("span", { class: "cml-v" }, this.number, " ", this.unit));
    const key = (kind: "cell" | "incident", text: string) =>
      h("div", { class: "cml-li" }, swatch({ kind }), h("span", { class: "cml-name" }, h("span", { class: "cml-l" }, text)), h("b"));
    this.gutter = h("div", { class: "cml-gu" }, title, h("div", { class: "cml-lg" }, key("cell", text("cellKey")), key("incident", text("incidentKey"))));
    this.element = h("div", { class: "cml-pl" }, this.drawing);
  }

  draw(scene: Scene, width: number, narrow: boolean, cursor: number | null): void {
    const shown = scene.incidents;
    say(this.number, count(shown.length));
    say(this.unit, text(shown.length === 1 ? "oneIncident" : "manyIncidents"));
    const [left, right] = [narrow ? LEFT_NARROW : LEFT, width - RIGHT];
    const x = (t: number) => left + ((right - left) * (t - scene.t0)) / (scene.t1 - scene.t0);
    const key = [scene.t1 - scene.t0, left, right, cursor === null ? "" : Math.round(x(cursor))].join();
    if (key !== this.axisKey) {
      this.axisKey = key;
      mark(this.drawing, "width", String(width));
      this.ticks.replaceChildren(...axis(scene, x, left, right, cursor));
    }
    this.place(scene.cells.map((cell) => {
      const from = Math.max(left, x(cell.t0));
      return { key: `cell ${cell.id}`, make: () => new Bar(cell), at: from, room: Math.max(1, Math.min(right, x(cell.t1 ?? scene.t1)) - from), of: cell };
    }), this.bars);
    this.place(shown.map((one, i) => {
      const next = shown[i + 1];
      return { key: `incident ${one.id}`, make: () => new Sign(one), at: x(one.t), room: (next ? x(next.t) : right) - x(one.t), of: one };
    }), this.signs);
    mark(this.drawing, "aria-label", text("laneSaid", scene.cells.length, shown.length));
  }

  /** What goes with the time is moved, not made anew: text that is only moved costs no layout. */
  private place<T>(wanted: Placed<T>[], known: Map<string, Mover<T>>): void {
    const keys = new Set(wanted.map((each) => each.key));
    for (const [key, mover] of known) if (!keys.has(key)) { mover.group.remove(); known.delete(key); }
    for (const { key, make, at, room, of } of wanted) {
      let mover = known.get(key);
      if (!mover) {
        mover = make();
        known.set(key, mover);
        this.drawing.append(mover.group);
      }
      mark(mover.group, "transform", `translate(${at.toFixed(1)})`);
      mover.update(of, room);
    }
  }
}

/** Something at a moment, with so many pixels to its right. */
interface Placed<T> {
  key: string;
  make: () => Mover<T>;
  at: number;
  room: number;
  of: T;
}

interface Mover<T> {
  group: SVGElement;
  update(of: T, room: number): void;
}

function axis(scene: Scene, x: (t: number) => number, left: number, right: number, cursor: number | null): SVGElement[] {
  const out: SVGElement[] = [svg("line", { x1: left, x2: right, y1: AXIS + 0.5, y2: AXIS + 0.5, stroke: "var(--ln1)" })];
  const window = scene.t1 - scene.t0;
  for (const t of scene.ticks) {
    const at = Math.round(x(t)) - 0.5;
    out.push(svg("line", { x1: at, x2: at, y1: 0, y2: AXIS, stroke: "var(--ln3)" }));
    out.push(svg("line", { x1: at, x2: at, y1: AXIS, y2: AXIS + 4, stroke: "var(--ln1)" }));
    if (cursor !== null && Math.abs(x(cursor) - at) < CURSOR) continue;
    const before = Math.round(scene.t1 - t);
    const anchor = before === 0 ? "end" : before === Math.round(window) ? "start" : "middle";
    out.push(svg("text", { x: at, y: AXIS + 17, "text-anchor": anchor }, ago(before, window)));
  }
  return out;
}

/** A cell: a bar as long as it ran, with its first line as far as it fits. */
class Bar implements Mover<CellEvent> {
  readonly group: SVGElement;
  private readonly title = svg("title");
  private readonly body = svg("rect", { y: 5, height: 17, fill: "var(--cpu)", opacity: 0.16 });
  private readonly edge = svg("rect", { y: 5, width: 2, height: 17 });
  private readonly words = svg("text", { class: "cml-code", x: 7, y: 17.5 });

  constructor(cell: CellEvent) {
    this.group = svg("g", { class: "cml-cell", "data-cell": cell.n ?? "" }, this.title, this.body, this.edge, this.words);
  }

  update(cell: CellEvent, room: number): void {
    const full = cell.n === null ? cell.src : `[${cell.n}] ${cell.src}`;
    const failed = cell.ok === false;
    say(this.title, failed ? text("failedCell", full) : full);
    mark(this.body, "width", room.toFixed(1));
    mark(this.edge, "fill", failed ? "var(--warn)" : "var(--cpu)");
    say(this.words, fit(full, cell.n === null ? "" : `[${cell.n}]`, (room - 10) / CODE));
  }
}

/** An incident, and what was done about it where there is room to say it. */
class Sign implements Mover<IncidentEvent> {
  readonly group: SVGElement;
  private readonly title = svg("title");
  private readonly words = svg("text", { class: "cml-warn", x: 10, y: 41 });

  constructor(one: IncidentEvent) {
    this.group = svg("g", { class: "cml-incident" }, this.title, svg("path", { d: "M0 29l6 12h-12z", fill: "var(--warn)" }), this.words);
    say(this.title, `${one.error}: ${said(one.message)} → ${said(one.action)}: ${said(one.outcome)}`);
  }

  update(one: IncidentEvent, room: number): void {
    say(this.words, [`${one.error} → ${said(one.action)}`, one.error].find((words) => words.length <= (room - 16) / TEXT) ?? "");
  }
}

/** As much of a text as fits, or the short form, or nothing. */
function fit(full: string, short: string, room: number): string {
  if (room >= full.length) return full;
  if (room > 12) return `${full.slice(0, Math.floor(room) - 1)}…`;
  return room > short.length ? short : "";
}
