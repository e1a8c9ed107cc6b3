// The left gutter of a strip: legend and read-outs in one list.

import { h, mark, say } from "../page/dom";
import { NO_SAMPLE } from "../text/format";
import { provenanceMark, swatch } from "../page/icons";
import type { Look } from "../data/look";
import type { ReadingSpec, StripSpec } from "./panels";
import { t } from "../text/text";

interface Row {
  spec: ReadingSpec;
  label: HTMLElement;
  value: HTMLElement;
  bars: HTMLElement[];
}

export class Gutter {
  readonly element: HTMLElement;
  private readonly number = h("b", { class: "cml-num" });
  private readonly unit = h("small");
  private readonly rows: Row[];

  constructor(private readonly spec: StripSpec) {
    const title = h("div", { class: "cml-t" }, h("h3", {}, spec.title));
    if (spec.provenance) title.append(provenanceMark(spec.provenance, spec.why));
    title.append(h("span", { class: "cml-v" }, this.number, " ", this.unit));
    const list = h("div", { class: "cml-lg" });
    this.rows = spec.readings.map((reading) => this.row(list, reading));
    this.element = h("div", { class: "cml-gu" }, title, list);
  }

  update(look: Look): void {
    const [number, unit] = this.spec.headline(look);
    say(this.number, number);
    say(this.unit, unit);
    for (const row of this.rows) {
      if (typeof row.spec.label === "function") say(row.label, row.spec.label(look));
      if (row.spec.cores) this.bars(row, look);
      else this.value(row, look);
    }
  }

  /** The strip in one sentence, for those who hear it. */
  sentence(look: Look): string {
    const [number, unit] = this.spec.headline(look);
    const parts = this.spec.readings
      .filter((reading) => !reading.cores)
      .map((reading) => {
        const label = typeof reading.label === "function" ? reading.label(look) : reading.label;
        return `${label} ${reading.value(look)}${reading.provenance === "estimated" ? `, ${t("estimated")}` : ""}`;
      });
    return `${this.spec.title}: ${`${number} ${unit}`.trim()}; ${parts.join("; ")}`;
  }

  private row(list: HTMLElement, spec: ReadingSpec): Row {
    const label = h("span", { class: "cml-l" }, typeof spec.label === "string" ? spec.label : "");
    const bars = (spec.cores ?? []).map(() => h("i"));
    const value = bars.length
      ? h("b", { class: "cml-cores", role: "img", "aria-label": t("eachCore") }, ...bars)
      : h("b");
    const classes = ["cml-li", spec.wide ? "cml-wide" : "", spec.roomy ? "cml-roomy" : ""].filter(Boolean).join(" ");
    const named = h("span", { class: "cml-name" }, label);
    // "unavailable" stands there as a word.
    if (!["", "measured", "unavailable"].includes(spec.provenance)) named.append(provenanceMark(spec.provenance, spec.why));
    list.append(h("div", { class: classes, title: spec.why }, swatch(spec.swatch), named, value));
    return { spec, label, value, bars };
  }

  private value(row: Row, look: Look): void {
    const text = row.spec.value(look);
    say(row.value, text);
    mark(row.value, "class", text === NO_SAMPLE || text === t("unavailable") ? "cml-m" : null);
  }

  private bars(row: Row, look: Look): void {
    row.spec.cores?.forEach((name, i) => {
      const share = look.at(name);
      const bar = row.bars[i] as HTMLElement;
      const part = `${Number.isFinite(share) ? Math.round(Math.min(1, share) * 100) : 0}%`;
      if (bar.style.getPropertyValue("--p") !== part) bar.style.setProperty("--p", part);
      mark(bar, "class", Number.isFinite(share) ? null : "cml-none");
    });
  }
}
