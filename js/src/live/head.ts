// Head of the dashboard: the model, whether the kernel is busy, the devices, the window and the pause button.

import { h, mark, say, svg } from "../page/dom";
import { provenanceMark, provenanceName } from "../page/icons";
import type { About, Aims, Chip, State } from "../data/messages";
import { choice } from "../page/parts";
import { said } from "../text/said";
import { t } from "../text/text";

export const WINDOWS: [seconds: number, label: string][] = [[10, "10 s"], [60, "1 min"], [600, "10 min"], [3600, "1 h"]];

export interface Actions {
  window(seconds: number): void;
  pause(): void;
  /** The strips as a table, or without it. */
  table(): void;
  /** Show it in a window or tab of its own; null where it is one. */
  apart: ((tab: boolean) => void) | null;
}

export class Head {
  readonly element: HTMLElement;
  private readonly name = h("h2");
  private readonly detail = h("span", { class: "cml-s cml-m cml-detail" });
  private readonly badge = h("span", { class: "cml-st" }, h("i"), h("span"));
  private readonly chips = h("div", { class: "cml-bd", role: "list", "aria-label": t("devices") });
  private readonly pause = h("button", { class: "cml-btn cml-pause", type: "button", title: t("spaceKey") });
  /** Window and pause: they belong to the live view. */
  readonly controls: HTMLElement;
  private readonly aims = h("span", { class: "cml-aims cml-s" });
  private readonly windows: HTMLButtonElement[];
  private readonly sheet = h("button", { class: "cml-btn", type: "button", title: t("tableKey"), "aria-pressed": "false" }, t("asTable"));

  constructor(actions: Actions) {
    this.windows = WINDOWS.map(([seconds, label]) => {
      const button = h("button", { type: "button", title: t("windowKeys") }, label);
      button.addEventListener("click", () => actions.window(seconds));
      return button;
    });
    this.pause.addEventListener("click", () => actions.pause());
    const group = h("span", { class: "cml-seg", role: "group", "aria-label": t("timeWindow") }, ...this.windows);
    const head = h("header", { class: "cml-hd" }, this.name, this.detail, this.badge,
      h("span", { class: "cml-sp" }), this.aims);
    this.sheet.addEventListener("click", () => actions.table());
    this.controls = h("div", { class: "cml-ctl" }, group, this.pause, this.sheet);
    const { apart } = actions;
    if (apart) {
      const out = h("button", { class: "cml-btn", type: "button", title: t("windowWhy") }, svg("svg", { viewBox: "0 0 12 12", class: "cml-ic", "aria-hidden": "true" }, svg("path", { d: "M4.500 3V1.500h6v6H9M1.500 4.500h6v6h-6z", fill: "none", stroke: "currentColor", "stroke-width": 1.2 })), ` ${t("window")}`);
      out.addEventListener("click", (event) => apart(event.shiftKey));
      head.append(out);
    }
    this.element = h("div", { class: "cml-top" }, head, this.chips);
  }

  about(about: Partial<About>, chips: Chip[]): void {
    say(this.name, about.name ?? "coreml_lab");
    say(this.detail, said(about.detail ?? ""));
    mark(this.detail, "title", said(about.detail ?? ""));
    this.chips.replaceChildren(...chips.map(chipElement));
  }

  /** The strategies, with their sentences as titles; `ask` sets one. */
  strategy(aims: Aims | null, waits: boolean, ask: (name: string) => void): void {
    if (!aims) return;
    const made = choice(t("strategy"), aims.choices.map(({ name }) => [name, name]), aims.current, ask);
    made.element.querySelectorAll("button").forEach((button, i) => mark(button, "title", said(aims.choices[i]?.sentence ?? "")));
    const held = this.aims.contains(this.aims.ownerDocument.activeElement);
    this.aims.replaceChildren(h("span", { class: "cml-m" }, waits ? `${t("strategy")}: ${t("waits")}` : t("strategy")), made.element);
    if (held) made.element.querySelector<HTMLElement>("[aria-pressed=true]")?.focus();
  }

  /** Whether the strips are shown as a table, too. */
  tables(on: boolean): void {
    mark(this.sheet, "aria-pressed", String(on));
  }

  update(state: State | null, standing: string, window: number, paused: boolean): void {
    const cell = state?.cell;
    const busy = standing === "" && state?.busy === true;
    const doing = cell && cell.n !== null ? t("busyCell", cell.n) : t("busy");
    say(this.badge.lastElementChild as Element, standing || (busy ? doing : t("idle")));
    mark(this.badge, "data-state", standing ? "gone" : busy ? "busy" : "idle");
    // It beats with the read-outs: a running animation has the browser draw all of the page sixty times a second.
    mark(this.badge, "data-beat", busy && performance.now() % 2_000 < 1_000 ? "off" : null);
    this.windows.forEach((button, i) => mark(button, "aria-pressed", String(WINDOWS[i]?.[0] === window)));
    mark(this.pause, "aria-pressed", String(paused));
    say(this.pause, t(paused ? "resume" : "pause"));
  }
}

function chipElement(chip: Chip): HTMLElement {
  const off = chip.provenance !== "measured";
  const plain = chip.kind === "source" || off;
  const sign = plain ? provenanceMark(chip.provenance, chip.note) : h("i", { style: `background:var(--${chip.kind})` });
  return h("span", {
    class: off ? "cml-bg cml-off" : "cml-bg", role: "listitem", tabindex: "0",
    title: said(chip.note), "aria-label": `${said(chip.title)} (${provenanceName(chip.provenance)}): ${said(chip.note)}`,
  }, sign, said(chip.title));
}

/** Why nothing is read of a Neural Engine, as the kernel says. */
export function neuralNote(chips: Chip[]): string | undefined {
  const chip = chips.find((each) => each.kind === "ane");
  const note = chip?.provenance === "unavailable" ? chip.note : chip?.title;
  return note === undefined ? note : said(note).replace(/^Neural Engine: /, "");
}
