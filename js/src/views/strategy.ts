// The view Strategy: what plans aim at, in sentences; what this model's plan says; which device and engine it is on.

import type { Desk } from "../data/desk";
import { h } from "../page/dom";
import type { Aims, Place } from "../data/messages";
import { button, table } from "../page/parts";
import type { Panel } from "../page/tabs";
import { said } from "../text/said";
import { t } from "../text/text";

export class Strategy implements Panel {
  readonly id = "strategyOf";
  readonly element = h("div", { class: "cml-view" });
  private drawn = "";

  constructor(private readonly desk: Desk) {}

  update(): void {
    const { aims } = this.desk;
    const waits = this.desk.waiting.has("strategy");
    const key = `${JSON.stringify(aims)}${waits}`;
    if (key === this.drawn) return;
    this.drawn = key;
    const held = (this.element.contains(this.element.ownerDocument.activeElement) && this.element.ownerDocument.activeElement?.getAttribute("data-key")) || "";
    this.element.replaceChildren(...(aims ? this.parts(aims, waits) : [h("p", { class: "cml-empty" }, t("waitKernel"))]));
    if (held) this.element.querySelector<HTMLElement>(`[data-key="${CSS.escape(held)}"]`)?.focus();
  }

  private parts(aims: Aims, waits: boolean): HTMLElement[] {
    const choices = aims.choices.map(({ name, sentence }) => {
      const on = name === aims.current;
      const pick = button(on ? t("nowOn") : t("choose2"), () => this.desk.ask("strategy", name), on ? "cml-btn cml-picked" : "cml-btn");
      pick.dataset["key"] = name;
      pick.setAttribute("aria-pressed", String(on));
      pick.setAttribute("aria-label", `${name}: ${on ? t("nowOn") : t("choose2")}`);
      return h("div", { class: "cml-card", role: "listitem", "data-on": String(on) }, h("div", { class: "cml-cardt" }, h("h3", {}, name), pick),
        // The sentence begins with the name, which stands above it already.
        h("p", {}, said(sentence).replace(`${name}: `, "")));
    });
    const told = [waits ? t("waits") : "", said(aims.error)].filter(Boolean).join(" · ");
    return [
      h("div", { class: "cml-cards", role: "list" }, ...choices),
      h("p", { class: "cml-note" }, h("b", {}, `${t("planSays")}: `), [said(aims.plan) || t("noModel"), said(aims.why)].filter(Boolean).join(": ")),
      h("p", { class: "cml-s cml-note", "aria-live": "polite" }, told),
      ...this.engines(aims),
    ];
  }

  private engines(aims: Aims): HTMLElement[] {
    const head = h("h3", { class: "cml-sub" }, t("engines"));
    if (!aims.places.length) {
      const ask = button(t("enginesAsk"), () => this.desk.ask("places"));
      ask.dataset["key"] = "places";
      return [head, h("div", { class: "cml-tools" }, ask, h("span", { class: "cml-s cml-m" }, t("enginesWhy")))];
    }
    const rows = aims.places.map((place) => this.row(place, aims));
    return [head, table(t("engines"), [[t("device")], ["", "n"], [t("engine")], [""]], rows), h("p", { class: "cml-s cml-m cml-note" }, t("engineHow"))];
  }

  private row(place: Place, aims: Aims): HTMLElement {
    const here = place.device === aims.device;
    const use = button(here ? t("used") : t("use"), () => this.desk.ask("device", place.device));
    use.dataset["key"] = `device ${place.device}`;
    use.disabled = here || !place.available || !aims.device;
    use.setAttribute("aria-label", `${place.device}: ${here ? t("used") : t("use")}`);
    const engine = here ? aims.engine : place.engines.join(", ");
    return h("tr", place.available ? {} : { class: "cml-m" }, h("th", { scope: "row" }, place.device), h("td", {}, said(place.title)),
      h("td", { class: "cml-wrap" }, place.available ? engine : `${t("notHere")}: ${said(place.reason)}`), h("td", { class: "cml-n" }, use));
  }
}
