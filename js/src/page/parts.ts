// Small controls that several views share.

import { h, mark } from "./dom";
import { t } from "../text/text";

/** A text larger than this would take the page down with it. */
const MOST_BYTES = 512 * 2 ** 20;

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

/** A button that opens a file of the reader's disk; `problem` is told what is wrong with it, nothing ("") once another is chosen. */
export function chooser(text: string, opened: (content: string) => void | Promise<void>, problem: (words: string) => void): [HTMLButtonElement, HTMLInputElement] {
  const input = h("input", { type: "file", accept: ".json,application/json", hidden: "", "aria-label": text });
  input.addEventListener("change", () => void (async () => {
    const file = input.files?.[0];
    input.value = "";
    if (!file) return;
    problem("");
    try {
      if (file.size > MOST_BYTES) throw new Error(`${Math.round(file.size / 2 ** 20)} MiB > ${MOST_BYTES / 2 ** 20} MiB`);
      await opened(await file.text());
    } catch (error) {
      problem(t("badFile", String((error as Error).message)));
    }
  })());
  return [button(text, () => input.click()), input];
}

/** A list of names and values; both are text. */
export function facts(rows: [name: string, value: Node | string][]): HTMLElement {
  return h("dl", { class: "cml-dl" }, ...rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

/** A table that scrolls by itself; heads are words, "n" for numbers. */
export function table(label: string, heads: [text: string, kind?: "n"][], rows: HTMLElement[]): HTMLElement {
  const cells = heads.map(([text, kind]) => h(text ? "th" : "td", { ...(text ? { scope: "col" } : {}), class: kind && text ? "cml-n" : "" }, text));
  return h("div", { class: "cml-table", tabindex: "0", role: "region", "aria-label": label },
    h("table", {}, h("thead", {}, h("tr", {}, ...cells)), h("tbody", {}, ...rows)));
}
