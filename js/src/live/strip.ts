// One strip of the live view: its gutter, and its plots beside it.

import { h } from "../page/dom";
import { Gutter } from "./gutter";
import type { StripSpec } from "./panels";
import { Plot } from "./plot";
import type { Store } from "../data/store";

export interface Strip {
  spec: StripSpec;
  gutter: Gutter;
  plots: Plot[];
  box: HTMLElement;
}

/** A strip that draws what the store has. */
export function strip(spec: StripSpec, store: Store): Strip {
  const gutter = new Gutter(spec);
  const plots: Plot[] = [];
  const pictures = h("div", { class: "cml-pl", role: "img", "aria-label": spec.title });
  for (const plot of spec.plots) {
    const holder = h("div", { class: "cml-plot" });
    if (plot.missing) holder.append(h("div", { class: "cml-missing", title: plot.missing }, h("span", {}, plot.missing)));
    pictures.append(holder);
    plots.push(new Plot(holder, plot, store));
  }
  const box = h("div", { class: "cml-row", "data-strip": spec.id }, gutter.element, pictures);
  return { spec, gutter, plots, box };
}
