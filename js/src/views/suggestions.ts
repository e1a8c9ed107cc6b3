// The view Suggestions: a card each, with evidence, expected gain and what a trial measured.

import type { Desk } from "../data/desk";
import { h, mark, svg } from "../page/dom";
import { digits, fitting, show } from "../text/format";
import { provenanceMark } from "../page/icons";
import type { Amount, Card } from "../data/messages";
import { button } from "../page/parts";
import type { Panel } from "../page/tabs";
import { said } from "../text/said";
import { t } from "../text/text";

const LEFT = 0.4;
const RIGHT = 1.2;
const WIDE = 300;

export class Suggestions implements Panel {
  readonly id = "suggestions";
  readonly element = h("div", { class: "cml-view" });
  private readonly note = h("p", { class: "cml-s cml-m cml-note" });
  private readonly list = h("div", { class: "cml-cards", role: "list" });
  private readonly cards = new Map<number, { text: string; element: HTMLElement }>();

  constructor(private readonly desk: Desk) {
    this.element.append(this.note, this.list);
  }

  update(): void {
    const told = this.desk.suggested;
    const held = this.desk.waiting.has("suggestions");
    this.note.textContent = [told?.name, said(told?.note ?? ""), held ? t("waits") : ""].filter(Boolean).join(" · ");
    if (!told?.cards.length) {
      this.cards.clear();
      this.list.replaceChildren(h("p", { class: "cml-empty" }, t(told ? "noCards" : "noCardsYet")));
      return;
    }
    const shown = told.cards.map((card) => this.card(card));
    const known = new Set(told.cards.map((card) => card.id));
    for (const id of this.cards.keys()) if (!known.has(id)) this.cards.delete(id);
    // Only what changed is put in anew, so that a focused button keeps its focus.
    if (shown.length !== this.list.children.length || shown.some((element, i) => this.list.children[i] !== element)) {
      const focused = (this.list.ownerDocument.activeElement?.closest(".cml-card") as HTMLElement | null)?.dataset["id"];
      this.list.replaceChildren(...shown);
      if (focused !== undefined) this.list.querySelector<HTMLElement>(`[data-id="${Number(focused)}"] button`)?.focus();
    }
  }

  private card(card: Card): HTMLElement {
    const known = this.cards.get(card.id);
    const text = JSON.stringify(card);
    if (known?.text === text) return known.element;
    const element = known && card.state === "running" && known.element.dataset["state"] === "running" ? known.element : this.build(card);
    progress(element, card);
    this.cards.set(card.id, { text, element });
    return element;
  }

  private build(card: Card): HTMLElement {
    const title = h("div", { class: "cml-cardt" }, h("h3", {}, said(card.title)), h("span", { class: `cml-tag cml-tag-${card.state}` }, t(card.state)));
    const seen = h("ul", { class: "cml-seen cml-s" }, ...card.evidence.map((line) => h("li", {}, said(line))));
    const gain = card.gain.value === null ? said(card.gain.note) || t("unavailable") : t("gainOf", `≈ ${card.gain.value ? show(card.gain.value, card.gain.unit) : `0 ${fitting(0, card.gain.unit).unit}`}`);
    const expected = h("p", { class: "cml-s" }, `${t("expected")}: ${gain} `, provenanceMark(card.gain.provenance, card.gain.note));
    const more = h("p", { class: "cml-s cml-m" }, [`${t("confidence")}: ${said(card.confidence)}`, card.risk ? `${t("risk")}: ${said(card.risk)}` : ""].filter(Boolean).join(" · "));
    const found = card.can ? measured(card) : h("p", { class: "cml-s" }, h("b", {}, `${t("author")}: `), said(card.advice));
    const reasons = card.reasons.map((reason) => h("p", { class: "cml-s cml-m" }, said(reason)));
    return h("div", { class: "cml-card", role: "listitem", "data-id": String(card.id), "data-state": card.state, "aria-label": said(card.title) },
      title, h("p", {}, said(card.why)), seen, expected, more, found, ...reasons, h("div", { class: "cml-acts cml-s" }, ...this.actions(card)));
  }

  private actions(card: Card): (Node | string)[] {
    const does = (what: "try" | "accept" | "undo" | "halt", text: string, css = "cml-btn") => button(text, () => this.desk.ask(what, card.id), css);
    switch (card.state) {
      case "new": return [does("try", t("try"), "cml-btn cml-prime"), t("background")];
      case "waiting": return [t("waiting")];
      case "running": return [h("progress", { max: "1", "aria-label": said(card.title) }), h("span", { class: "cml-done" }), does("halt", t("halt"))];
      case "awaits": return [does("accept", t("accept"), "cml-btn cml-prime"), does("undo", t("undo")), ratioText(card.ratio)];
      case "accepted": return [does("undo", t("undo")), t("acceptedHow")];
      case "rejected": return [does("try", t("tryAgain")), ...(card.ratio ? [does("accept", t("accept"))] : []), ratioText(card.ratio)];
      case "failed": case "stopped": return [does("try", t("tryAgain"))];
      default: return [];
    }
  }
}

function progress(element: HTMLElement, card: Card): void {
  const bar = element.querySelector("progress");
  const done = element.querySelector(".cml-done");
  if (!bar || !done) return;
  bar.value = card.of ? card.done / card.of : 0;
  done.textContent = `${card.done} / ${card.of}`;
}

function ratioText(ratio: Amount | null): string {
  if (!ratio || ratio.value === null) return "";
  const between = ratio.low !== null && ratio.high !== null ? ` [${digits(ratio.low)}, ${digits(ratio.high)}]` : ` (${said(ratio.note)})`;
  return t("ofTime", digits(ratio.value)) + between;
}

/** Before and after, and the ratio on an axis; left of 1 is less time. */
function measured(card: Card): HTMLElement {
  const box = h("div", { class: "cml-trial cml-s" });
  if (!card.ratio || card.ratio.value === null) {
    box.append(h("span", { class: "cml-m" }, `${t("measured")}: ${card.state === "new" ? t("notTried") : t(card.state)}`));
    return box;
  }
  const now = (amount: Amount | null) => (amount && amount.value !== null ? show(amount.value, amount.unit) : t("unavailable"));
  box.append(interval(card.ratio), h("span", {}, `${t("before")} ${now(card.before)} → ${t("after")} ${now(card.after)} `, provenanceMark("measured"),
    card.size ? `, ${t("size")} ${now(card.size)}` : ""));
  return box;
}

/** A dot and its 95 % interval; what lies outside is drawn at the edge. */
export function interval(ratio: Amount): SVGElement {
  const value = ratio.value ?? 1;
  const [low, high] = [ratio.low ?? value, ratio.high ?? value];
  const left = Math.min(LEFT, low * 0.95);
  const right = Math.max(RIGHT, high * 1.05);
  const x = (v: number) => 18 + ((Math.log(v) - Math.log(left)) / (Math.log(right) - Math.log(left))) * (WIDE - 36);
  const sure = high < 1 || low > 1;
  const picture = svg("svg", { viewBox: `0 0 ${WIDE} 34`, class: "cml-interval", role: "img", "aria-label": `${ratioText(ratio)}; ${t("less")}` });
  for (const v of [0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.5, 2, 4, 8]) {
    if (v < left || v > right) continue;
    picture.append(svg("line", { x1: x(v), x2: x(v), y1: 2, y2: 20, stroke: v === 1 ? "var(--tx)" : "var(--ln)" }));
    picture.append(svg("text", { x: x(v), y: 32, "text-anchor": "middle" }, `${v}×`));
  }
  const colour = sure ? "var(--cpu)" : "var(--all)";
  picture.append(svg("line", { x1: x(low), x2: x(high), y1: 11, y2: 11, stroke: colour, "stroke-width": 3 }));
  picture.append(svg("circle", { cx: x(value), cy: 11, r: 4.5, fill: sure ? colour : "var(--bg)", stroke: colour, "stroke-width": 2 }));
  mark(picture, "data-sure", String(sure));
  return picture;
}
