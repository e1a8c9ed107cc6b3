// The last strip: which cells ran, what went wrong, and the time axis that all strips share.

import { h, say, svg } from "./dom";
import { ago, count } from "./format";
import { swatch } from "./icons";
import type { CellEvent, IncidentEvent } from "./messages";
import { LEFT, LEFT_NARROW, RIGHT, type Scene } from "./scene";
import { t as text } from "./text";

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

  constructor() {
    const title = h("div", { class: "cml-t" }, h("h3", {}, text("cells")), h("span", { class: "cml-v" }, this.number, " ", this.unit));
    const key = (kind: "cell" | "incident", text: string) =>
      h("div", { class: "cml-li" }, swatch({ kind }), h("span", { class: "cml-name" }, h("span", { class: "cml-l" }, text)), h("b"));
    this.gutter = h("div", { class: "cml-gu" }, title, h("div", { class: "cml-lg" }, key("cell", text("cellKey")), key("incident", text("incidentKey"))));
    this.element = h("div", { class: "cml-pl" }, this.drawing);
  }

  draw(scene: Scene, width: number, narrow: boolean, cursor: number | null): void {
    const shown = scene.incidents.filter((i) => i.t >= scene.t0 && i.t <= scene.t1);
    say(this.number, count(shown.length));
    say(this.unit, text(shown.length === 1 ? "oneIncident" : "manyIncidents"));
    const left = narrow ? LEFT_NARROW : LEFT;
    const right = width - RIGHT;
    const x = (t: number) => left + ((right - left) * (t - scene.t0)) / (scene.t1 - scene.t0);
    this.drawing.setAttribute("width", String(width));
    const cells = scene.cells.filter((c) => (c.t1 ?? scene.t1) > scene.t0 && c.t0 < scene.t1);
    this.drawing.replaceChildren(
      ...axis(scene, x, left, right, cursor),
      ...cells.flatMap((cell) => bar(cell, Math.max(left, x(cell.t0)), Math.min(right, x(cell.t1 ?? scene.t1)))),
      ...shown.flatMap((one, i) => incident(one, x(one.t), i + 1 < shown.length ? x((shown[i + 1] as IncidentEvent).t) : right)),
    );
    this.drawing.setAttribute("aria-label", text("laneSaid", cells.length, shown.length));
  }
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

function bar(cell: CellEvent, from: number, to: number): SVGElement[] {
  const width = Math.max(1, to - from);
  const full = cell.n === null ? cell.src : `[${cell.n}] ${cell.src}`;
  const failed = cell.ok === false;
  const group = svg("g", { class: "cml-cell", "data-cell": cell.n ?? "" });
  const title = svg("title");
  title.textContent = failed ? text("failedCell", full) : full;
  group.append(
    title,
    svg("rect", { x: from, y: 5, width, height: 17, fill: "var(--cpu)", opacity: 0.16 }),
    svg("rect", { x: from, y: 5, width: 2, height: 17, fill: failed ? "var(--warn)" : "var(--cpu)" }),
  );
  const fitted = fit(full, cell.n === null ? "" : `[${cell.n}]`, (width - 10) / CODE);
  if (fitted) group.append(svg("text", { class: "cml-code", x: from + 7, y: 17.5 }, fitted));
  return [group];
}

/** As much of a text as fits, or the short form, or nothing. */
function fit(full: string, short: string, room: number): string {
  if (room >= full.length) return full;
  if (room > 12) return `${full.slice(0, Math.floor(room) - 1)}…`;
  return room > short.length ? short : "";
}

function incident(one: IncidentEvent, at: number, next: number): SVGElement[] {
  const group = svg("g", { class: "cml-incident" });
  const title = svg("title");
  title.textContent = `${one.error}: ${one.message} → ${one.action}: ${one.outcome}`;
  group.append(title, svg("path", { d: `M${at} 29l6 12h-12z`, fill: "var(--warn)" }));
  const room = (next - at - 16) / TEXT;
  const said = [`${one.error} → ${one.action}`, one.error].find((words) => words.length <= room);
  if (said) group.append(svg("text", { class: "cml-warn", x: at + 10, y: 41 }, said));
  return [group];
}
