// Provenance marks and legend swatches. Shape carries the meaning; colour only repeats it.

import { svg } from "./dom";
import { said } from "../text/said";
import { t } from "../text/text";

export const PROVENANCES = ["measured", "apportioned", "estimated", "simulated", "unavailable"] as const;

/** How a number came to be, in the reader's words. */
export function provenanceName(provenance: string): string {
  const known = PROVENANCES.find((name) => name === provenance);
  return known ? t(known) : provenance;
}

const WAVE = "M1.5 5q2.2-2.6 4.5-.7t4.5-.7M1.5 9q2.2-2.6 4.5-.7t4.5-.7";

function shapes(provenance: string): SVGElement[] {
  const ring = (extra: Record<string, string | number>) =>
    svg("circle", { cx: 6, cy: 6, r: 4.1, fill: "none", stroke: "currentColor", "stroke-width": 1.4, ...extra });
  switch (provenance) {
    case "measured":
      return [svg("circle", { cx: 6, cy: 6, r: 4, fill: "currentColor" })];
    case "apportioned":
      return [ring({}), svg("path", { d: "M6 2a4 4 0 0 0 0 8z", fill: "currentColor" })];
    case "estimated":
      return [svg("path", { d: WAVE, fill: "none", stroke: "currentColor", "stroke-width": 1.5, "stroke-linecap": "round" })];
    case "simulated":
      return [ring({ "stroke-dasharray": "2 1.6" })];
    default:
      return [ring({ "stroke-width": 1.2 }), svg("path", { d: "M3 9L9 3", stroke: "currentColor", "stroke-width": 1.2 })];
  }
}

/** The 12 px mark of a provenance. */
export function provenanceMark(provenance: string, why = ""): SVGElement {
  const name = provenanceName(provenance);
  const label = why ? `${name}: ${said(why)}` : name;
  const icon = svg("svg", { class: "cml-ic", viewBox: "0 0 12 12", role: "img", "aria-label": label });
  const title = svg("title");
  title.textContent = label;
  icon.append(title, ...shapes(provenance));
  return icon;
}

export type Swatch =
  | { kind: "line"; colour: string; dash: string; width: number }
  | { kind: "area" | "band" | "cell" | "incident" | "missing" | "none" };

/** The 18 x 10 px sample of how a quantity is drawn. */
export function swatch(sample: Swatch): SVGElement {
  const icon = svg("svg", { class: "cml-sw", width: 18, height: 10, viewBox: "0 0 18 10", "aria-hidden": "true" });
  const box = (attributes: Record<string, string | number>) => svg("rect", { x: 0.5, y: 0.5, width: 17, height: 9, ...attributes });
  if (sample.kind === "line") {
    icon.append(svg("line", {
      x1: 0, y1: 5, x2: 18, y2: 5, stroke: sample.colour, "stroke-width": sample.width, "stroke-dasharray": sample.dash,
    }));
  } else if (sample.kind === "area") {
    icon.append(svg("rect", { width: 18, height: 10, fill: "var(--soft)", opacity: 0.5 }));
    icon.append(svg("line", { x2: 18, y1: 0.5, y2: 0.5, stroke: "var(--cpu)" }));
  } else if (sample.kind === "band") {
    icon.append(box({ fill: "none", stroke: "var(--est)", "stroke-width": 0.8 }));
    icon.append(svg("path", { d: "M2 9.5L11 .5M7 9.5L16 .5M12 9.5L17.500 4M.500 6L6 .5", stroke: "var(--est)", "stroke-width": 1 }));
  } else if (sample.kind === "missing") {
    icon.append(box({ fill: "none", stroke: "var(--all)", "stroke-width": 0.8, "stroke-dasharray": "2 2" }));
  } else if (sample.kind === "cell") {
    icon.append(svg("rect", { width: 18, height: 10, fill: "var(--cpu)", opacity: 0.22 }));
  } else if (sample.kind === "incident") {
    icon.append(svg("path", { d: "M9 0l5.500 10h-11z", fill: "var(--warn)" }));
  }
  return icon;
}
