// The view Compare: the recordings of this session against one of them.

import { pairs, ratioBetween, verdict } from "./comparing";
import type { Desk, Told } from "../data/desk";
import { h, say } from "../page/dom";
import { digits, show } from "../text/format";
import { provenanceMark } from "../page/icons";
import type { Amount } from "../data/messages";
import { pairsView } from "./pairs";
import { button, chooser } from "../page/parts";
import { openTape } from "../files/saved";
import type { Panel } from "../page/tabs";
import { said } from "../text/said";
import { t } from "../text/text";

const MOST = 40;
let made = 0;

export class Compare implements Panel {
  readonly id = "compare";
  readonly element: HTMLElement;
  private readonly turns: HTMLButtonElement;
  private readonly said = h("p", { class: "cml-s cml-note", "aria-live": "polite" });
  private readonly body = h("div");
  private readonly group = `cml-base-${++made}`;
  private baseline: number | null = null;
  private drawn = "";
  /** What was refused last, in words: it stands, whatever else comes, until the reader does the next thing here. */
  private problem = "";

  constructor(private readonly desk: Desk) {
    this.turns = button(t("measureTurns"), () => { this.problem = ""; this.desk.ask("compare"); });
    const file = chooser(t("addFile"), async (content) => {
      const tape = await openTape(content);
      if (!tape.recorded) throw new Error(t("nothing"));
      this.desk.add(tape.recorded);
    }, (problem) => { this.problem = problem; this.update(); });
    this.element = h("div", { class: "cml-view" }, h("div", { class: "cml-tools" }, this.turns, ...file), this.said, this.body);
  }

  update(): void {
    const { recordings: every, compared, comparing } = this.desk;
    const waits = this.desk.waiting.has("comparing");
    const doing = comparing?.stage ? t("comparing", `${said(comparing.stage)}, ${Math.round(comparing.done * 100)} %`) : said(comparing?.error ?? "");
    this.turns.disabled = waits || Boolean(comparing?.stage);
    const base = every.find((told) => told.id === this.baseline) ?? every[0];
    const key = `${every.map((told) => told.id).join()}/${base?.id}/${compared.map((found) => found.id).join()}`;
    say(this.said, [this.problem, waits ? t("waits") : doing].filter(Boolean).join(" · "));
    if (key === this.drawn) return;
    this.drawn = key;
    const found = compared[compared.length - 1];
    const parts: Node[] = found ? [pairsView(found)] : [];
    if (base && every.length > 1) {
      const last = [...every].reverse().find((told) => told !== base) as Told;
      parts.push(this.table(every, base), h("p", { class: "cml-s cml-m cml-note" }, t("apart")),
        h("h3", { class: "cml-sub" }, t("opsRatio", title(last), title(base))), ops(last, base));
    } else if (!found) parts.push(h("p", { class: "cml-empty" }, t(base ? "needTwo" : "noRecordings")));
    this.body.replaceChildren(...parts);
  }

  private table(every: Told[], base: Told): HTMLElement {
    const heads = [t("baseline"), t("recording"), t("device"), t("median"), t("interval"), t("ratio"), t("verdict")];
    const rows = every.map((told) => {
      const pick = h("input", { type: "radio", name: this.group, "aria-label": `${t("baseline")}: ${title(told)}` });
      pick.checked = told === base;
      pick.addEventListener("change", () => {
        this.baseline = told.id;
        this.update();
        this.body.querySelector<HTMLElement>("input:checked")?.focus();
      });
      const { value, low, high, note } = told.p50;
      const between = low !== null && high !== null ? `${show(low, "s")} – ${show(high, "s")}` : said(note) || t("unavailable");
      const ratio = value !== null && base.p50.value ? `${digits(value / base.p50.value)}×${apart(told.p50, base.p50)}` : t("unavailable");
      const judged = told === base ? "baseline" : verdict(told.p50, base.p50);
      const time = h("td", { class: "cml-n" }, `${show(value ?? NaN, "s")} `, provenanceMark(told.p50.provenance, note));
      return h("tr", {}, h("td", {}, pick), h("th", { scope: "row" }, title(told)), h("td", {}, said(told.title)), time, h("td", {}, between),
        h("td", { class: "cml-n" }, told === base ? "1" : ratio), h("td", { "data-verdict": judged }, t(judged)));
    });
    return h("div", { class: "cml-table", tabindex: "0", role: "region", "aria-label": t("compare") },
      h("table", {}, h("thead", {}, h("tr", {}, ...heads.map((text, i) => h("th", { scope: "col", class: i === 3 || i === 5 ? "cml-n" : "" }, text)))), h("tbody", {}, ...rows)));
  }
}

function title(told: Told): string {
  return told.id < 0 ? `${told.name} (${t("fromFile")})` : `#${told.id} ${told.name}`;
}

/** The widest that two intervals leave open for a ratio: both sides at their far ends. */
function apart(one: Amount, base: Amount): string {
  const between = ratioBetween(one, base);
  return between ? ` [${digits(between[0])}, ${digits(between[1])}]` : "";
}

function ops(one: Told, base: Told): HTMLElement {
  const found = pairs(one, base);
  const top = Math.max(...found.flatMap((pair) => [pair.before ?? 0, pair.after ?? 0]), 1e-12);
  const bar = (value: number | null, colour: string) => h("td", { class: "cml-n cml-share" },
    h("span", { class: "cml-meter", style: `--w:${((value ?? 0) / top) * 100}%;--c:var(--${colour})` }),
    h("span", {}, value === null ? "–" : show(value, "s")));
  const rows = found.slice(0, MOST).map((pair) => {
    const both = pair.before !== null && pair.after !== null;
    const ratio = both && pair.before ? `${digits((pair.after as number) / pair.before)}×` : t("only");
    return h("tr", {}, h("th", { scope: "row" }, pair.node), h("td", {}, pair.op), bar(pair.before, "all"), bar(pair.after, "cpu"), h("td", { class: "cml-n" }, ratio));
  });
  const heads = [t("op"), t("type"), t("before"), t("after"), t("ratio")].map((text, i) => h("th", { scope: "col", class: i > 1 ? "cml-n" : "" }, text));
  const table = h("table", {}, h("thead", {}, h("tr", {}, ...heads)), h("tbody", {}, ...rows));
  return h("div", { class: "cml-table", tabindex: "0", role: "region", "aria-label": t("opsRatio", title(one), title(base)) }, table);
}
