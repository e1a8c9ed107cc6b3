// The view Operations: a table of the last recorded run, searched, grouped and sorted, with bars.

import type { Desk, Told } from "../data/desk";
import { h, mark, say } from "../page/dom";
import { count, show } from "../text/format";
import { type Column, type Grouping, type Line, lines, sorted } from "./grouping";
import { provenanceMark } from "../page/icons";
import { kindOf } from "./kinds";
import { choice } from "../page/parts";
import type { Panel } from "../page/tabs";
import { t, type Text } from "../text/text";

/** Rows drawn at once: a table of thousands would make every key press slow. */
const MOST = 300;

const COLUMNS: [Column, Text, numeric: boolean][] = [
  ["name", "op", false], ["type", "type", false], ["share", "share", true], ["time", "time", true], ["count", "count", true],
  ["weights", "weights", true], ["bytes", "bytes", true], ["memory", "memory", true], ["device", "device", false], ["provenance", "mark", false],
];

export class Operations implements Panel {
  readonly id = "operations";
  readonly element: HTMLElement;
  readonly search: HTMLInputElement;
  private readonly head = h("span", { class: "cml-s cml-m" });
  private readonly table = h("div", { class: "cml-table", tabindex: "0", role: "region", "aria-label": t("operations") });
  private readonly found = h("p", { class: "cml-s cml-m cml-note", "aria-live": "polite" });
  private grouping: Grouping = "byOp";
  private column: Column = "time";
  private descending = true;
  private drawn: Told | null = null;
  private key = "";

  constructor(private readonly desk: Desk, private readonly open: (place: number) => void) {
    this.search = h("input", { type: "search", class: "cml-search", placeholder: t("searchKey"), "aria-label": t("search") });
    this.search.addEventListener("input", () => this.update());
    const group = choice(t("group"), [["byOp", t("byOp")], ["byType", t("byType")], ["byScope", t("byScope")]], "byOp",
      (value) => { this.grouping = value as Grouping; this.update(); });
    const bar = h("div", { class: "cml-tools" }, this.head, h("span", { class: "cml-sp" }), group.element, this.search);
    this.element = h("div", { class: "cml-view" }, bar, this.table, this.found);
  }

  update(): void {
    const told = this.desk.last;
    const key = [this.grouping, this.column, this.descending, this.search.value].join("\n");
    if (told === this.drawn && key === this.key && told) return;
    this.drawn = told;
    this.key = key;
    if (!told) {
      this.table.replaceChildren(h("p", { class: "cml-empty" }, t("nothing")));
      return;
    }
    say(this.head, `${told.name}: ${t("run", show(told.p50.value ?? NaN, "s"), told.runs, told.traced)}`);
    const rows = sorted(lines(told.ops, this.grouping, this.search.value), this.column, this.descending);
    this.table.replaceChildren(this.draw(rows.slice(0, MOST)));
    const hidden = told.left_out + Math.max(0, rows.length - MOST);
    const all = this.grouping === "byOp" ? told.ops.length : lines(told.ops, this.grouping, "").length;
    say(this.found, [t("found", count(rows.length), count(all)), hidden ? t("leftOut", count(hidden)) : ""].filter(Boolean).join(", "));
  }

  private draw(rows: Line[]): HTMLElement {
    const top = Math.max(...rows.map((row) => row.share ?? 0), 1e-9);
    const heads = COLUMNS.map(([column, text, numeric]) => this.heading(column, text, numeric));
    return h("table", {}, h("thead", {}, h("tr", {}, ...heads)), h("tbody", {}, ...rows.map((row) => this.row(row, top))));
  }

  private heading(column: Column, text: Text, numeric: boolean): HTMLElement {
    const on = column === this.column;
    const button = h("button", { type: "button" }, t(text), h("span", { "aria-hidden": "true" }, on ? (this.descending ? " ▾" : " ▴") : ""));
    button.addEventListener("click", () => {
      this.descending = on ? !this.descending : numeric;
      this.column = column;
      this.update();
      // The table is drawn anew: the one who sorts by keyboard stays where they were.
      this.table.querySelector<HTMLElement>(`th[data-column=${column}] button`)?.focus();
    });
    const cell = h("th", { scope: "col", "data-column": column, class: numeric ? "cml-n" : "" }, button);
    mark(cell, "aria-sort", on ? (this.descending ? "descending" : "ascending") : null);
    return cell;
  }

  private row(line: Line, top: number): HTMLElement {
    const first = line.members[0] ?? 0;
    const op = this.drawn?.ops[first];
    const kind = op ? kindOf(op) : "cpu";
    const name = h("button", { type: "button", class: "cml-link" }, line.name);
    name.addEventListener("click", () => this.open(first));
    if (op?.where && line.members.length === 1) name.title = op.where;
    const bar = h("span", { class: "cml-meter", style: `--w:${((line.share ?? 0) / top) * 100}%;--c:var(--${kind === "transfer" ? "move" : kind})` });
    const number = (text: string) => h("td", { class: "cml-n" }, text);
    const share = h("td", { class: "cml-n cml-share" }, bar, h("span", {}, line.share === null ? t("unavailable") : show(line.share, "1")));
    return h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, line.type), share, number(show(line.time, "s")), number(count(line.count)),
      number(line.weights ? show(line.weights, "By") : "–"), number(show(line.bytes, "By")),
      number(line.memory === null ? t("unavailable") : show(line.memory, "By")), h("td", {}, line.device),
      h("td", {}, provenanceMark(line.provenance)));
  }
}
