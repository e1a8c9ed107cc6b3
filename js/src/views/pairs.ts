// What cl.compare found: ratios with their intervals on one axis, and the time of every pair.

import { h, svg } from "../page/dom";
import { count, digits, show } from "../text/format";
import { provenanceMark } from "../page/icons";
import type { Amount, Arm, Compared } from "../data/messages";
import { said } from "../text/said";
import { t } from "../text/text";

const WIDE = 260;
const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100];
/** Pixels that a label of the axis needs. */
const LABEL = 42;

/** A logarithmic axis that holds every ratio, and 1. */
export function scale(amounts: Amount[]): [low: number, high: number] {
  const values = amounts.flatMap(({ value, low, high }) => [value, low, high]).filter((value): value is number => value !== null && value > 0);
  const [least, most] = [Math.min(1, ...values), Math.max(1, ...values)];
  const low = STEPS.findLast((step) => step <= least * 0.97) ?? least / 2;
  const high = STEPS.find((step) => step >= most * 1.03) ?? most * 2;
  return [low, high];
}

/** The steps that have room for a label, 1 among them. */
export function labelled(steps: number[], x: (value: number) => number): number[] {
  const one = steps.indexOf(1);
  const gaps = steps.slice(1).map((step, i) => x(step) - x(steps[i] as number));
  const every = Math.max(1, Math.ceil(LABEL / Math.max(1, Math.min(...gaps))));
  return steps.filter((_, i) => (i - one) % every === 0);
}

export function pairsView(found: Compared): HTMLElement {
  const ratios = found.arms.flatMap((arm) => arm.rows.map((row) => row.ratio));
  const [low, high] = scale(ratios);
  const x = (value: number) => 8 + ((Math.log(Math.min(high, Math.max(low, value))) - Math.log(low)) / (Math.log(high) - Math.log(low))) * (WIDE - 16);
  const marks = labelled(STEPS.filter((step) => step >= low && step <= high), x);
  const axis = svg("svg", { viewBox: `0 0 ${WIDE} 16`, class: "cml-ratio", "aria-hidden": "true" }, ...marks.map((step) => svg("text", { x: x(step), y: 12, "text-anchor": "middle", class: step === 1 ? "cml-one" : "" }, `${step < 1 ? digits(step).replace(/0+$/, "") : count(step)}×`)));
  const heads = h("tr", {}, h("th", { scope: "col" }, t("arm")), h("th", { scope: "col", class: "cml-n" }, t("value")), h("td", {}, axis),
    h("th", { scope: "col", class: "cml-n" }, t("ratioOf")), h("th", { scope: "col" }, t("verdict")));
  const rows = [found.reference, ...found.arms].flatMap((arm) => group(arm, arm === found.reference, x, marks));
  const table = h("div", { class: "cml-table cml-pairs", tabindex: "0", role: "region", "aria-label": `${t("compare")}: ${t("everyPair")}` }, h("table", {}, h("thead", {}, heads), h("tbody", {}, ...rows)));
  const absent = found.absent.map((arm) => h("p", { class: "cml-s cml-m cml-note" }, t("absent", arm.name, said(arm.reason))));
  return h("div", { "data-compared": String(found.id) }, h("h3", { class: "cml-sub" }, found.name, h("span", { class: "cml-m" }, ` ${t("pairsHead", found.pairs, `${digits(found.confidence * 100)} %`)}`)),
    table, ...absent, dots(found), h("p", { class: "cml-s cml-m cml-note" }, t("pairsFoot")));
}

function group(arm: Arm, base: boolean, x: (value: number) => number, marks: number[]): HTMLElement[] {
  const colour = colourOf(arm);
  const head = h("tr", { class: "cml-armrow" }, h("th", { scope: "rowgroup", colspan: "5" }, h("i", { class: "cml-dot", style: `background:${colour}` }), `${arm.name}: ${said(arm.title)}`, base ? h("span", { class: "cml-m" }, ` (${t("baseline")})`) : ""));
  const rows = arm.rows.map((row) => {
    const known = row.ratio.value !== null && row.ratio.value > 0;
    const between = row.ratio.low !== null && row.ratio.high !== null ? ` [${digits(row.ratio.low)}, ${digits(row.ratio.high)}]` : "";
    const value = row.value.value === null ? t("unavailable") : show(row.value.value, row.value.unit);
    const ratio = known ? [h("b", {}, digits(row.ratio.value as number)), h("span", { class: "cml-m" }, between)] : [h("span", { class: "cml-m", title: said(row.ratio.note) }, "–")];
    const sure = row.ratio.low !== null && row.ratio.high !== null && (row.ratio.low > 1 || row.ratio.high < 1);
    return h("tr", {}, h("th", { scope: "row", class: "cml-in" }, said(row.label)), h("td", { class: "cml-n" }, `${value} `, provenanceMark(row.value.provenance, row.value.note)),
      h("td", {}, known && !base ? interval(row.ratio, x, marks, colour, sure) : ""), h("td", { class: "cml-n" }, ...(base ? ["1"] : ratio)),
      h("td", { "data-sure": String(sure), class: sure ? "" : "cml-m" }, said(row.verdict)));
  });
  return [head, ...rows];
}

/** A dot and its interval among the marks of the axis; open where it holds 1. */
function interval(ratio: Amount, x: (value: number) => number, marks: number[], colour: string, sure: boolean): SVGElement {
  const picture = svg("svg", { viewBox: `0 0 ${WIDE} 18`, class: "cml-ratio", "aria-hidden": "true" },
    ...marks.map((step) => svg("line", { x1: x(step), x2: x(step), y1: 0, y2: 18, stroke: step === 1 ? "var(--tx)" : "var(--ln3)" })));
  const value = ratio.value ?? 1;
  const ink = sure ? colour : "var(--all)";
  if (ratio.low !== null && ratio.high !== null) picture.append(svg("line", { x1: x(ratio.low), x2: x(ratio.high), y1: 9, y2: 9, stroke: ink, "stroke-width": 3 }));
  picture.append(svg("circle", { cx: x(value), cy: 9, r: 4.2, fill: sure ? ink : "var(--bg)", stroke: ink, "stroke-width": 1.8 }));
  return picture;
}

/** The time of every pair, one row per arm; a little apart so that equal ones are seen. */
function dots(found: Compared): HTMLElement {
  const arms = [found.reference, ...found.arms].filter((arm) => arm.times.length);
  const every = arms.flatMap((arm) => arm.times).filter((time) => time > 0);
  if (!every.length) return h("div");
  const [low, high] = [Math.log(Math.min(...every) * 0.95), Math.log(Math.max(...every) * 1.05)];
  const wide = 640;
  const x = (time: number) => 6 + ((Math.log(time) - low) / (high - low)) * (wide - 12);
  const rows = arms.map((arm) => {
    const sorted = [...arm.times].sort((a, b) => a - b);
    const middle = sorted[Math.floor(sorted.length / 2)] ?? 0;
    const picture = svg("svg", { viewBox: `0 0 ${wide} 26`, class: "cml-dots", role: "img", "aria-label": `${arm.name}: ${t("median")} ${show(middle, "s")}` },
      ...arm.times.map((time, i) => svg("circle", { cx: x(time), cy: 13 + ((i * 7) % 11) - 5, r: 2.4, fill: colourOf(arm), opacity: 0.5 })),
      svg("line", { x1: x(middle), x2: x(middle), y1: 3, y2: 23, stroke: "var(--tx)", "stroke-width": 2 }));
    return h("div", { class: "cml-dotrow cml-s" }, h("span", {}, arm.name), h("span", { class: "cml-m" }, show(middle, "s")), picture);
  });
  return h("div", {}, h("h3", { class: "cml-sub" }, t("everyPair"), h("span", { class: "cml-m" }, ` ${t("marked")}`)), ...rows);
}

function colourOf(arm: Arm): string {
  return /^(gpu|cuda|metal|opencl)/.test(arm.device) ? "var(--gpu)" : /^coreml/.test(arm.device) ? "var(--cpu)" : "var(--all)";
}
