// Everything that is known of one operation.

import type { Told } from "../data/desk";
import { h } from "../page/dom";
import { rough, show } from "../text/format";
import { provenanceMark } from "../page/icons";
import type { Code, OpRow } from "../data/messages";
import { facts } from "../page/parts";
import { roofline } from "./roofline";
import { said } from "../text/said";
import { t } from "../text/text";

/** The boxes below the tracks; `seconds` is how long the chosen block took. */
export function opFacts(told: Told, row: OpRow, seconds: number): HTMLElement[] {
  const share = row.share === null ? "" : `, ${show(row.share, "1")}`;
  const time = h("span", {}, `${show(seconds, "s")} `, provenanceMark(row.provenance), share);
  const rows: [string, Node | string][] = [
    [t("time"), time], [t("ran"), `${row.device}, ${row.engine}`], [t("shape"), [row.dtype, row.shape].filter(Boolean).join(" ") || "–"],
    [t("bytes"), show(row.bytes, "By")], [t("weights"), row.weights ? show(row.weights, "By") : "–"],
    [t("memory"), row.memory === null ? t("unavailable") : show(row.memory, "By")],
  ];
  if (row.fused.length) rows.push([t("fused"), row.fused.join(", ")]);
  const own = h("div", {}, h("h3", {}, row.node, h("span", { class: "cml-m" }, ` ${row.op}`)), facts(rows));
  const origin = h("div", {}, h("h3", {}, t("where"), h("span", { class: "cml-m" }, row.where ? ` ${row.where}` : "")));
  const code = told.code.find((each) => each.where === row.where);
  if (code) origin.append(listing(code));
  else if (!row.where) origin.append(h("p", { class: "cml-m" }, t("noWhere")));
  if (told.chip && (row.placed || row.why)) {
    origin.append(h("h3", {}, t("placed", told.chip), " ", provenanceMark("estimated")), h("p", {}, said(row.placed)));
    if (row.why) origin.append(h("p", { class: "cml-s cml-m" }, said(row.why)));
  }
  return [own, origin, work(told, row, seconds)];
}

/** The line that made it, among its neighbours. */
function listing(code: Code): HTMLElement {
  const lines = code.lines.map((text, i) => h(i === code.line ? "mark" : "span", {}, `${String(code.first + i).padStart(3)}  ${text}\n`));
  return h("pre", { class: "cml-listing", tabindex: "0" }, ...lines);
}

/** Where it stands on a roofline, by estimated work and a roof by rule of thumb. */
function work(told: Told, row: OpRow, seconds: number): HTMLElement {
  const rows: [string, Node | string][] = [];
  const sign = () => provenanceMark("estimated");
  if (row.moved !== null) rows.push([t("moved"), h("span", {}, `≈ ${show(row.moved, "By")} `, sign())]);
  if (row.moved !== null && seconds > 0) rows.push(["GB/s", h("span", {}, `≈ ${rough(row.moved / seconds / 1e9)} `, sign())]);
  if (row.flops !== null && seconds > 0) rows.push(["GFLOP/s", h("span", {}, `≈ ${rough(row.flops / seconds / 1e9)} `, sign())]);
  if (row.flops !== null && row.moved) rows.push([t("intensity"), h("span", {}, `≈ ${rough(row.flops / row.moved)} FLOP/B `, sign())]);
  if (!rows.length) return h("div", {}, h("h3", {}, "Roofline"), h("p", { class: "cml-s cml-m" }, t("noFlops")));
  const roof = told.roofs.find((each) => each.engine === row.engine && each.device === row.device);
  const picture = roofline(row, seconds, roof);
  return h("div", {}, h("h3", {}, "Roofline", h("span", { class: "cml-m" }, " GFLOP/s, FLOP/B")), ...(picture ? [picture] : []), facts(rows));
}
