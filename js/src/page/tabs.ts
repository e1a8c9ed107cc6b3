// The row of views: one is shown, arrows and the numbers 1 to 6 change it.

import { h, mark, say } from "./dom";
import { t, type Text } from "../text/text";

export interface Panel {
  id: Text;
  element: HTMLElement;
  /** Draw it anew; only the one that is shown is asked. */
  update(): void;
}

let made = 0;

export class Tabs {
  readonly element: HTMLElement;
  shown: Text;
  private readonly list: HTMLElement;
  private readonly buttons: HTMLButtonElement[];

  constructor(private readonly panels: Panel[], controls: HTMLElement, private readonly changed: () => void) {
    const unique = `cml-${++made}`;
    this.shown = panels[0]?.id ?? "live";
    this.buttons = panels.map((panel, i) => {
      const button = h("button", {
        type: "button", role: "tab", id: `${unique}-tab-${panel.id}`, "aria-controls": `${unique}-${panel.id}`, title: `${i + 1}`,
      }, h("span", {}, t(panel.id)), h("span", { class: "cml-count" }));
      panel.element.id = `${unique}-${panel.id}`;
      mark(panel.element, "role", "tabpanel");
      mark(panel.element, "aria-labelledby", button.id);
      button.addEventListener("click", () => this.show(panel.id));
      return button;
    });
    this.list = h("div", { class: "cml-tabs", role: "tablist", "aria-label": t("views") }, ...this.buttons);
    this.list.addEventListener("keydown", (event) => this.arrows(event));
    this.element = h("div", { class: "cml-bar" }, this.list, h("span", { class: "cml-sp" }), controls);
    this.show(this.shown);
  }

  show(id: Text): void {
    this.shown = id;
    this.panels.forEach((panel, i) => {
      const on = panel.id === id;
      panel.element.hidden = !on;
      const button = this.buttons[i] as HTMLButtonElement;
      mark(button, "aria-selected", String(on));
      mark(button, "tabindex", on ? "0" : "-1");
      // In a narrow cell the row scrolls by itself; the page must not.
      if (on && this.list?.clientWidth) this.list.scrollLeft = button.offsetLeft - (this.list.clientWidth - button.offsetWidth) / 2;
    });
    this.changed();
  }

  /** The view with a number, counted from 1. */
  pick(number: number): void {
    const panel = this.panels[number - 1];
    if (panel) this.show(panel.id);
  }

  /** A number behind a title, where there is something to see. */
  count(id: Text, value: number): void {
    const button = this.buttons[this.panels.findIndex((panel) => panel.id === id)];
    if (button?.lastElementChild) say(button.lastElementChild, value ? String(value) : "");
  }

  private arrows(event: KeyboardEvent): void {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const place = this.panels.findIndex((panel) => panel.id === this.shown);
    const next = (place + step + this.panels.length) % this.panels.length;
    this.show((this.panels[next] as Panel).id);
    this.buttons[next]?.focus();
  }
}
