// A small roofline: one operation against what its engine does by rule of thumb. Both axes are logarithmic.

import { h, svg } from "../page/dom";
import { brief, digits } from "../text/format";
import { provenanceMark } from "../page/icons";
import type { OpRow, Roof } from "../data/messages";
import { t } from "../text/text";

const WIDE = 260;
const HIGH = 120;
const LEFT = 44;
const BOTTOM = 20;

/** Powers of ten that hold all values, at least two of them. */
export function decades(values: number[]): [low: number, high: number] {
  const known = values.filter((value) => value > 0 && Number.isFinite(value)).map(Math.log10);
  const [low, high] = [Math.floor(Math.min(...known)), Math.ceil(Math.max(...known))];
  return high - low >= 2 ? [low, high] : [low - 1, low + 2];
}

/** Share of what the roof allows at that intensity. */
export function share(rate: number, intensity: number, roof: Roof): number {
  return rate / Math.min(roof.flops, intensity * roof.memory);
}

/** The picture and its sentence, or nothing where the arithmetic is not known. */
export function roofline(row: OpRow, seconds: number, roof: Roof | undefined): HTMLElement | null {
  if (row.flops === null || !row.moved || !(seconds > 0) || !(row.flops > 0) || !roof) return null;
  const intensity = row.flops / row.moved;
  const rate = row.flops / seconds;
  const bend = roof.flops / roof.memory;
  const [x0, x1] = decades([intensity, bend / 4, bend * 4]);
  const [y0, y1] = decades([rate, roof.flops, Math.min(roof.flops, 10 ** x0 * roof.memory)]);
  const x = (value: number) => LEFT + ((Math.log10(value) - x0) / (x1 - x0)) * (WIDE - LEFT - 10);
  const y = (value: number) => HIGH - BOTTOM - ((Math.log10(value) - y0) / (y1 - y0)) * (HIGH - BOTTOM - 8);
  const part = share(rate, intensity, roof);
  const said = t("ofRoof", `≈ ${digits(part * 100)} %`);
  const picture = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, class: "cml-roofline", role: "img", "aria-label": `${t("roof")}: ${said}` });
  for (let e = y0; e <= y1; e += Math.max(1, Math.ceil((y1 - y0) / 4))) {
    picture.append(svg("line", { x1: LEFT, x2: WIDE - 10, y1: y(10 ** e), y2: y(10 ** e), stroke: "var(--ln3)" }),
      svg("text", { x: LEFT - 5, y: y(10 ** e) + 4, "text-anchor": "end" }, power(e - 9)));
  }
  for (let e = x0; e <= x1; e += Math.max(1, Math.ceil((x1 - x0) / 4))) {
    picture.append(svg("text", { x: x(10 ** e), y: HIGH - 5, "text-anchor": "middle" }, power(e)));
  }
  const edge = 10 ** x1;
  const start = Math.max(10 ** x0, 10 ** y0 / roof.memory);
  const line = [[start, start * roof.memory], [bend, roof.flops], [edge, roof.flops]].map(([a, b]) => `${x(a as number)},${y(b as number)}`).join(" ");
  const colour = /^(cuda|metal|opencl)/.test(row.device) ? "var(--gpu)" : "var(--cpu)";
  picture.append(svg("polyline", { points: line, fill: "none", stroke: "var(--est)", "stroke-width": 1.5, "stroke-dasharray": "5 3" }),
    svg("line", { x1: x(intensity), x2: x(intensity), y1: y(rate), y2: y(Math.min(roof.flops, intensity * roof.memory)), stroke: colour, "stroke-dasharray": "2 2" }),
    svg("circle", { cx: x(intensity), cy: y(rate), r: 4.5, fill: colour }));
  const words = h("p", { class: "cml-s" }, said, " ", provenanceMark("estimated", t("roof")));
  const box = h("div", {}, words);
  box.prepend(picture);
  return box;
}

/** 10^e as people write it: 0.01, 1, 1k, 1M. */
function power(e: number): string {
  if (e < 0) return e < -2 ? `10^${e}` : brief(10 ** e);
  const [letter, rest] = e >= 6 ? ["M", e - 6] : e >= 3 ? ["k", e - 3] : ["", e];
  return `${10 ** rest}${letter}`;
}
