// Everything that is known of an operation or a group, and what is not the same in the other model.

import { h } from "../page/dom";
import { show } from "../text/format";
import { provenanceMark } from "../page/icons";
import { button, facts } from "../page/parts";
import { deviceKind, stateOf } from "./colours";
import { groupTitle } from "./labels";
import type { Box, Pair, Placed, Weight, Why } from "./messages";
import type { Item, Program } from "./program";
import { said } from "../text/said";
import { opsText, t, type Text } from "./text";

type Row = [name: string, value: Node | string];

const CHANGES: Record<string, Text> = { op: "changedOp", type: "changedType", precision: "changedPrecision", params: "changedParams", weights: "changedWeights", bits: "changedBits" };
/** So many neighbours are listed. */
const LISTED = 12;

export interface Other {
  program: Program;
  pair: Pair | null;
  node: number | null;
}

/** The texts and controls of one item; `go` leads to another. */
export function details(program: Program, item: Item, other: Other | null, go: (item: Item) => void, toggle: ((item: Item) => void) | null, open: boolean): HTMLElement[] {
  return program.isGroup(item) ? ofGroup(program, item, go, toggle, open) : ofNode(program, item, other, go, toggle);
}

function ofNode(program: Program, node: number, other: Other | null, go: (item: Item) => void, toggle: ((item: Item) => void) | null): HTMLElement[] {
  const box = program.nodes[node] as Box;
  const head = h("div", {}, h("h3", {}, box.name || box.op, h("span", { class: "cml-m" }, ` ${box.kind === "op" ? box.op : t(box.kind)}`)));
  if (other) head.append(difference(box, other));
  head.append(facts(own(box)));
  if (toggle && program.blockOf(node) >= 0) head.append(button(t("open"), () => toggle(node)));
  const parts: HTMLElement[] = [head];
  if (box.kind === "op") parts.push(time(program, node, go), placing(program, node));
  if (box.weights.length) parts.push(weights(box));
  parts.push(neighbours(program, node, go));
  return parts;
}

function own(box: Box): Row[] {
  const rows: Row[] = box.types.map((type, i): Row => [box.types.length > 1 ? t("results", i + 1) : t("result"), type || "–"]);
  rows.push([t("bytes"), box.bytes === null ? t("dynamic") : show(box.bytes, "By")]);
  for (const [name, value] of box.params) rows.push([name, value]);
  if (box.kind === "op") rows.push([t("where"), box.where ? h("code", { class: "cmi-code" }, box.where) : h("span", { class: "cml-m" }, t("noWhere"))]);
  return rows;
}

function time(program: Program, node: number, go: (item: Item) => void): HTMLElement {
  const { timed, ran } = program.picture;
  const row = timed.rows[node];
  const part = h("div", {}, h("h3", {}, t("time")));
  if (!row) {
    part.append(h("p", { class: "cml-m" }, provenanceMark("unavailable"), ` ${said(timed.missing) || t("notTimed")}`));
    if (ran) part.append(facts([[t("ranOn"), ran]]));
    return part;
  }
  const rows: Row[] = [];
  if (row.seconds !== null) rows.push([t("time"), h("span", {}, `${show(row.seconds, "s")} `, provenanceMark(row.provenance, t("measured", timed.runs)), ` ${t("measured", timed.runs)}`)]);
  else rows.push([t("time"), h("span", {}, link(t("within", program.nodes[row.carrier]?.name ?? "?"), () => go(row.carrier)))]);
  rows.push([t("ranOn"), `${row.device}, ${row.engine}`]);
  part.append(facts(rows));
  return part;
}

function placing(program: Program, node: number): HTMLElement {
  const { placing: told } = program.picture;
  const placed = told.rows[node];
  const planned = told.how === "planned";
  const title = planned ? t("planned") : t("onChip", told.title);
  const part = h("div", {}, h("h3", {}, title, " ", provenanceMark("estimated", planned ? t("planned") : t("estimate"))));
  if (!placed) {
    part.append(h("p", { class: "cml-m" }, provenanceMark("unavailable"), ` ${said(told.missing) || t("unknown")}`));
    return part;
  }
  part.append(h("p", {}, h("b", {}, placed.device ? t(deviceKind(placed.device) as Text) : t("before")), placed.seconds === null ? "" : `, ≈ ${show(placed.seconds, "s")}`));
  if (placed.supported.length > 1) part.append(h("p", { class: "cml-s cml-m" }, t("allowed", placed.supported.map((d) => t(deviceKind(d) as Text)).join(", "))));
  if (placed.note) part.append(h("p", { class: "cml-s cml-m" }, said(placed.note)));
  part.append(...reasons(program, placed));
  return part;
}

function reasons(program: Program, placed: Placed): HTMLElement[] {
  const list = (title: Text, rows: Why[]) => (rows.length ? [h("h4", {}, t(title)), h("ul", { class: "cml-seen" }, ...rows.map((why) => reason(program, why)))] : []);
  const found = [...list("reason", placed.reasons), ...list("risk", placed.risks)];
  return found.length || !placed.device || placed.device === "ne" ? found : [h("p", { class: "cml-s cml-m" }, t("free"))];
}

function reason(program: Program, why: Why): HTMLElement {
  const item = h("li", {}, said(why.text));
  if (why.remedy) item.append(h("p", { class: "cml-s" }, h("span", { class: "cml-m" }, `${t("helps")}: `), said(why.remedy)));
  const sources = why.sources.map((key) => program.picture.placing.sources[key] ?? key);
  item.append(h("p", { class: "cml-s cml-m" }, `${t("sure", said(why.confidence))}; ${t("source")}: ${sources.join("; ")}`));
  return item;
}

function weights(box: Box): HTMLElement {
  const rows = box.weights.map((w): Row => [w.param, `${w.shape || "1"}, ${stored(w)}, ${show(w.bytes, "By")}${w.users > 1 ? `, ${t("shared", opsText(w.users))}` : ""}`]);
  return h("div", {}, h("h3", {}, t("weights")), facts(rows));
}

function stored(weight: Weight): string {
  const how = weight.how === "as it is" ? t("asIs") : said(weight.how);
  return weight.bits === null ? `${t("unknown")}, ${how}` : t("stored", weight.bits, how);
}

function neighbours(program: Program, node: number, go: (item: Item) => void): HTMLElement {
  const box = program.nodes[node] as Box;
  const readers = [...new Set(program.readers[node] ?? [])];
  const list = (nodes: { node: number; as: string }[]): Node => {
    if (!nodes.length) return h("span", { class: "cml-m" }, t("nothing"));
    const shown = nodes.slice(0, LISTED).map(({ node: n, as }) => h("li", {}, as ? h("span", { class: "cml-m" }, `${as}: `) : "", link(name(program, n), () => go(n))));
    if (nodes.length > LISTED) shown.push(h("li", { class: "cml-m" }, t("more", nodes.length - LISTED)));
    return h("ul", { class: "cmi-near" }, ...shown);
  };
  return h("div", {}, facts([
    [t("reads"), list(box.inputs.map((arrow) => ({ node: arrow.node, as: arrow.param })))],
    [t("readers"), list(readers.map((n) => ({ node: n, as: "" })))],
  ]));
}

function name(program: Program, node: number): string {
  const box = program.nodes[node] as Box;
  return box.kind === "op" ? `${box.name} (${box.op})` : `${box.name} (${t(box.kind)})`;
}

function link(text: string, pressed: () => void): HTMLElement {
  return button(text, pressed, "cml-link");
}

function difference(box: Box, other: Other): HTMLElement {
  const { pair, node, program } = other;
  const theirs = node === null ? null : program.nodes[node];
  if (!theirs || !pair) return h("p", { class: "cmi-diff", "data-change": "gone" }, t("notThere", program.picture.name));
  if (!pair.changes.length) return h("p", { class: "cml-m" }, `${t("same")}${theirs.name === box.name ? "" : ` (${t("other", program.picture.name)}: ${theirs.name})`}`);
  const values: Record<string, (of: Box) => string> = {
    op: (of) => of.op, type: (of) => of.types.join(", "), precision: (of) => of.types.map((type) => type.split(" ")[0]).join(", "), params: (of) => of.params.map(([k, v]) => `${k} ${v}`).join(", ") || "–",
    weights: (of) => of.weights.map((w) => w.shape).join(", ") || "–", bits: (of) => of.weights.map((w) => stored(w)).join(", ") || "–",
  };
  const rows = pair.changes.map((what): Row => {
    const value = values[what];
    return [t(CHANGES[what] ?? "changed"), value ? h("span", {}, value(box), h("span", { class: "cml-m" }, ` — ${t("other", program.picture.name)}: `), value(theirs)) : t("changed")];
  });
  return h("div", { class: "cmi-diff", "data-change": "changed" }, h("b", {}, stateOf(pair) === "retyped" ? `~ ${t("retyped")}` : `≠ ${t("changed")}`), facts(rows));
}

function ofGroup(program: Program, item: Item, go: (item: Item) => void, toggle: ((item: Item) => void) | null, open: boolean): HTMLElement[] {
  const group = program.groupOf(item);
  const nodes = program.within(group).filter((i) => program.nodes[i]?.kind === "op");
  const boxes = nodes.map((i) => program.nodes[i] as Box);
  const bytes = boxes.flatMap((box) => box.weights).reduce((sum, w) => sum + w.bytes / Math.max(1, w.users), 0);
  const times = nodes.map((i) => program.picture.timed.rows[i]?.seconds ?? null).filter((s): s is number => s !== null);
  const rows: Row[] = [[t("inside"), opsText(nodes.length)], [t("weights"), bytes ? show(bytes, "By") : t("noWeights")]];
  rows.push([t("time"), times.length ? show(times.reduce((a, b) => a + b, 0), "s") : h("span", { class: "cml-m" }, said(program.picture.timed.missing) || t("unknown"))]);
  const head = h("div", {}, h("h3", {}, groupTitle(program, group), h("span", { class: "cml-m" }, ` ${t("group")}`)), facts(rows));
  if (toggle && program.groups[group]?.kind !== "block") head.append(button(t(open ? "shut" : "open"), () => toggle(item)));
  const list = h("ul", { class: "cmi-near" }, ...nodes.slice(0, LISTED * 2).map((i) => h("li", {}, link(name(program, i), () => go(i)))));
  if (nodes.length > LISTED * 2) list.append(h("li", { class: "cml-m" }, t("more", nodes.length - LISTED * 2)));
  return [head, h("div", {}, h("h3", {}, t("inside")), list)];
}

/** What a program is, while nothing is chosen. */
export function overview(program: Program, go: (item: Item) => void): HTMLElement[] {
  const { nodes, picture } = program;
  const ends = (kind: Box["kind"]) => nodes.flatMap((box, i) => (box.kind === kind && box.group < 0 ? [h("li", {}, link(box.name, () => go(i)), h("span", { class: "cml-m" }, ` ${box.types[0] ?? ""}`))] : []));
  const list = (rows: HTMLElement[]) => h("ul", { class: "cmi-near" }, ...rows.slice(0, LISTED));
  const kinds = new Map<string, number>();
  for (const box of nodes) if (box.kind === "op") kinds.set(box.op, (kinds.get(box.op) ?? 0) + 1);
  const most = [...kinds].sort((a, b) => b[1] - a[1]).slice(0, 8).map(([op, count]) => `${op} ${count}`).join(", ");
  const bytes = nodes.flatMap((box) => box.weights).reduce((sum, w) => sum + w.bytes / Math.max(1, w.users), 0);
  const rows: Row[] = [[t("kinds"), most + (kinds.size > 8 ? " …" : "")], [t("weights"), bytes ? show(bytes, "By") : t("noWeights")], [t("inputs"), list(ends("input"))], [t("outputs"), list(ends("output"))]];
  const parts = [h("p", { class: "cml-m" }, t("choose")), h("div", {}, h("h3", {}, picture.name), facts(rows))];
  const slow = Object.entries(picture.timed.rows).filter(([, row]) => row.seconds !== null).sort((a, b) => (b[1].seconds ?? 0) - (a[1].seconds ?? 0)).slice(0, 5);
  if (slow.length) {
    const lines = slow.map(([node, row]) => h("li", {}, link(name(program, Number(node)), () => go(Number(node))), h("span", { class: "cml-m" }, ` ${show(row.seconds ?? NaN, "s")} `), provenanceMark(row.provenance)));
    parts.push(h("div", {}, h("h3", {}, t("mostTime")), h("ul", { class: "cmi-near" }, ...lines)));
  }
  return parts;
}
