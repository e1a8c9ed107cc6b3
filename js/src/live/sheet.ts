// The live strips as a table, for those who do not see curves: now, at the cursor, least and greatest of the window.

import { h, say } from "../page/dom";
import { cursorLabel, NO_SAMPLE, show, span } from "../text/format";
import { provenanceName } from "../page/icons";
import type { Look } from "../data/look";
import type { ReadingSpec, StripSpec } from "./panels";
import { extent } from "../data/slice";
import type { Store } from "../data/store";
import { t } from "../text/text";

/** Milliseconds between two updates: a table that changes ten times a second cannot be read. */
const EVERY = 1_000;

interface Row {
  reading: ReadingSpec;
  label: HTMLElement;
  cells: HTMLElement[];
}

export class Sheet {
  readonly element: HTMLElement;
  private readonly caption = h("caption");
  private readonly heads: HTMLElement[];
  private rows: Row[] = [];
  private drawnAt = -Infinity;
  private key = "";

  constructor(private readonly strips: StripSpec[], private readonly store: Store) {
    this.heads = [t("strip"), t("quantity"), t("latest"), "", t("least"), t("most"), t("mark")].map((text) => h("th", { scope: "col" }, text));
    this.element = h("div", { class: "cml-table cml-sheet", tabindex: "0", role: "region", "aria-label": t("asTable") });
    this.element.hidden = true;
  }

  get shown(): boolean { return !this.element.hidden; }

  toggle(): void {
    this.element.hidden = this.shown;
    this.drawnAt = -Infinity;
    this.rows = [];
    if (!this.shown) { this.element.replaceChildren(); return; }
    const body = h("tbody");
    for (const strip of this.strips) {
      for (const reading of strip.readings.filter((each) => !each.cores)) body.append(this.row(strip, reading));
    }
    this.element.replaceChildren(h("table", {}, this.caption, h("thead", {}, h("tr", {}, ...this.heads)), body));
  }

  update(look: Look, window: number, at: number): void {
    const key = `${window}/${look.cursor === null ? "" : look.now - look.cursor}`;
    if (!this.shown || (at - this.drawnAt < EVERY && key === this.key)) return;
    this.drawnAt = at;
    this.key = key;
    say(this.caption, t("tableOf", span(window)));
    say(this.heads[3] as Element, look.cursor === null ? "–" : t("atCursor", cursorLabel(look.now - look.cursor, window)));
    const now = look.newest;
    for (const { reading, label, cells } of this.rows) {
      if (typeof reading.label === "function") say(label, reading.label(look));
      const known = reading.metric ? look.describe(reading.metric) : undefined;
      const [low, high] = known ? extent(this.store.ring, this.store.column(known.name), look.now - window, look.now, this.store.levels) : [NaN, NaN];
      const within = (value: number) => (known && reading.provenance !== "unavailable" ? show(value, known.unit) : "–");
      [reading.value(now), look.cursor === null ? "–" : reading.value(look), within(low), within(high)].forEach((text, i) => say(cells[i] as Element, text || NO_SAMPLE));
    }
  }

  private row(strip: StripSpec, reading: ReadingSpec): HTMLElement {
    const label = h("th", { scope: "row" }, typeof reading.label === "string" ? reading.label : "");
    const cells = [0, 1, 2, 3].map(() => h("td", { class: "cml-n" }));
    this.rows.push({ reading, label, cells });
    return h("tr", {}, h("td", {}, strip.title), label, ...cells, h("td", { title: reading.why }, reading.provenance ? provenanceName(reading.provenance) : ""));
  }
}
