// What the colours mean, in words: each that is there, with how many operations have it, and where it is known from.

import { h } from "../page/dom";
import { show } from "../text/format";
import { provenanceMark, PROVENANCES } from "../page/icons";
import { type Entry, type Mode, type Scale, STEPS } from "./colours";
import type { Picture } from "./messages";
import { said } from "../text/said";
import { opsText, t } from "./text";

/** The legend's parts; of two models the counts are those of both. */
export function legend(mode: Mode, pictures: Picture[], all: Entry[], scale: Scale | null, palette: Record<string, string>): HTMLElement[] {
  const entries = new Map<string, Entry>();
  for (const entry of all) {
    const known = entries.get(entry.text);
    if (known) known.count += entry.count;
    else entries.set(entry.text, { ...entry });
  }
  return [...sources(mode, pictures), ...[...entries.values()].map((entry) => line(mode, entry, scale, palette))];
}

/** Where each model's colours are known from, or why they are not; once where both say the same. */
function sources(mode: Mode, pictures: Picture[]): HTMLElement[] {
  const told = new Map(pictures.map((picture) => source(mode, picture)).filter(([text]) => text));
  return [...told].map(([text, how]) => h("span", { class: "cml-key" }, ...(how ? [provenanceMark(how)] : []), text));
}

function source(mode: Mode, { placing, timed, ran }: Picture): [text: string, how: string] {
  if (mode === "ran") return [ran, ""];
  if (mode === "time") return timed.missing ? [t("onlyKnown", said(timed.missing)), "unavailable"] : [t("measured", timed.runs), weakest(timed)];
  if (mode !== "placing") return ["", ""];
  if (placing.missing) return [t("onlyKnown", said(placing.missing)), "unavailable"];
  return [placing.how === "planned" ? t("planned") : t("onChip", placing.title), "estimated"];
}

/** Core ML's own times are apportioned: the legend says so where any of them is. */
function weakest(timed: Picture["timed"]): string {
  const hows = new Set(Object.values(timed.rows).map((row) => row.provenance));
  return [...PROVENANCES].reverse().find((how) => hows.has(how)) ?? "measured";
}

function line(mode: Mode, entry: Entry, scale: Scale | null, palette: Record<string, string>): HTMLElement {
  if (mode === "time" && entry.colour && scale) {
    const ramp = h("i", { class: "cmi-ramp" });
    ramp.style.background = `linear-gradient(to right, ${Array.from({ length: STEPS }, (_, i) => palette[`h${i}`]).join(", ")})`;
    return h("span", { class: "cml-key" }, show(scale.low, "s"), ramp, show(scale.high, "s"), h("span", { class: "cml-m" }, opsText(entry.count)));
  }
  const key = h("i", { class: `cmi-key${entry.colour ? "" : entry.known ? " cmi-empty" : " cmi-unknown"}` });
  if (entry.colour) key.style.background = palette[entry.colour] ?? "";
  return h("span", { class: "cml-key" }, key, entry.text, h("span", { class: "cml-m" }, String(entry.count)));
}
