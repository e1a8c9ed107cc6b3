// Small controls that several views share.

import { h, mark } from "./dom";

export interface Choice {
  element: HTMLElement;
  set(value: string): void;
}

/** A row of buttons of which one is pressed. */
export function choice(label: string, options: [value: string, text: string][], value: string, picked: (value: string) => void): Choice {
  const buttons = options.map(([own, text]) => {
    const button = h("button", { type: "button", "data-value": own }, text);
    button.addEventListener("click", () => { set(own); picked(own); });
    return button;
  });
  const set = (chosen: string) => buttons.forEach((button) => mark(button, "aria-pressed", String(button.dataset["value"] === chosen)));
  set(value);
  return { element: h("span", { class: "cml-choice", role: "group", "aria-label": label }, ...buttons), set };
}

export function button(text: string, pressed: () => void, css = "cml-btn"): HTMLButtonElement {
  const made = h("button", { type: "button", class: css }, text);
  made.addEventListener("click", pressed);
  return made;
}

/** A list of names and values; both are text. */
export function facts(rows: [name: string, value: Node | string][]): HTMLElement {
  return h("dl", { class: "cml-dl" }, ...rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}
