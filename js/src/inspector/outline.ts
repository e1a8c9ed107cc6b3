// The same graph as a tree of texts: for whoever reads with ears or fingers, and for whoever likes lists.

import { h, mark, say } from "../page/dom";
import { groupTitle } from "./labels";
import type { Box } from "./messages";
import type { Item, Program } from "./program";
import { opsText, t } from "./text";

/** So many rows are made at once; the rest on demand. */
const PAGE = 200;

export class Outline {
  readonly element: HTMLElement;
  private readonly rows = new Map<Item, HTMLElement>();
  private readonly tree = h("ul", { class: "cmi-tree", role: "tree" });
  private current: HTMLElement | null = null;

  constructor(private readonly program: Program, private readonly picked: (item: Item) => void, private readonly word: (item: Item) => string) {
    this.tree.setAttribute("aria-label", t("outline", program.picture.name));
    this.element = h("div", { class: "cmi-outline" }, this.tree);
    this.tree.addEventListener("keydown", (event) => this.key(event));
    this.tree.addEventListener("click", (event) => this.click(event));
    this.all();
  }

  /** Everything, or what a search found as a flat list. */
  all(found: Item[] | null = null): void {
    this.rows.clear();
    this.current = null;
    this.tree.replaceChildren();
    this.fill(this.tree, found ?? this.inside(-1), 1);
    if (found && !found.length) this.tree.append(h("li", { role: "treeitem", class: "cmi-leaf cml-m" }, t("none")));
    const first = this.tree.querySelector<HTMLElement>("[role=treeitem]");
    if (first) this.focusable(first);
  }

  /** Mark an item, opening what is around it. */
  select(item: Item | null): void {
    this.tree.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
    if (item === null) return;
    const path = this.program.isGroup(item) ? this.around(this.program.groupOf(item)) : this.program.path(item);
    for (const group of path) {
      const row = this.rows.get(this.program.itemOf(group));
      if (row) this.toggle(row, true);
    }
    const row = this.rows.get(item);
    if (!row) return;
    mark(row, "aria-selected", "true");
    this.focusable(row);
    // Within the list only: the page itself must not jump.
    const [box, own] = [this.element.getBoundingClientRect(), row.getBoundingClientRect()];
    if (own.top < box.top || own.top + 22 > box.bottom) this.element.scrollTop += own.top - box.top - box.height / 3;
  }

  /** Colours have changed: the words that say the same change with them. */
  retell(): void {
    for (const [item, row] of this.rows) {
      const place = row.querySelector(":scope > .cmi-row > .cmi-word");
      if (place) say(place, this.word(item));
    }
  }

  private around(group: number): number[] {
    const found: number[] = [];
    for (let g = this.program.groups[group]?.parent ?? -1; g >= 0; g = this.program.groups[g]?.parent ?? -1) found.unshift(g);
    return found;
  }

  private inside(group: number): Item[] {
    const nodes = this.program.childNodes(group).map((node): [number, Item] => [node, node]);
    const groups = this.program.childGroups(group).map((g): [number, Item] => [Math.min(...this.program.within(g), Infinity), this.program.itemOf(g)]);
    return [...nodes, ...groups].sort((a, b) => a[0] - b[0]).map(([, item]) => item);
  }

  private fill(list: HTMLElement, items: Item[], level: number, from = 0): void {
    for (const item of items.slice(from, from + PAGE)) list.append(this.row(item, level));
    if (items.length <= from + PAGE) return;
    const more = h("li", { role: "treeitem", class: "cmi-leaf cmi-more", "aria-level": String(level), tabindex: "-1" }, t("showMore", items.length - from - PAGE));
    more.addEventListener("cmi:more", () => {
      const before = more.previousElementSibling as HTMLElement | null;
      more.remove();
      this.fill(list, items, level, from + PAGE);
      const next = before?.nextElementSibling as HTMLElement | null;
      if (next) this.focusable(next, true);
    });
    list.append(more);
  }

  private row(item: Item, level: number): HTMLElement {
    const group = this.program.isGroup(item);
    const box = this.program.nodes[item] as Box;
    const text = group
      ? [groupTitle(this.program, this.program.groupOf(item)), opsText(this.program.within(this.program.groupOf(item)).filter((i) => this.program.nodes[i]?.kind === "op").length)]
      : [box.name, box.kind === "op" ? box.op : t(box.kind)];
    const line = h("div", { class: "cmi-row" }, h("span", { class: "cmi-name" }, text[0] ?? ""), h("span", { class: "cml-m" }, text[1] ?? ""), h("span", { class: "cmi-word" }, this.word(item)));
    const row = h("li", { role: "treeitem", "aria-level": String(level), "aria-selected": "false", tabindex: "-1", "data-item": String(item) }, line);
    if (group) row.setAttribute("aria-expanded", "false");
    row.style.setProperty("--deep", String(level - 1));
    this.rows.set(item, row);
    return row;
  }

  private toggle(row: HTMLElement, open: boolean): void {
    if (row.getAttribute("aria-expanded") === String(open) || !row.hasAttribute("aria-expanded")) return;
    row.setAttribute("aria-expanded", String(open));
    let list = row.querySelector<HTMLElement>(":scope > ul");
    if (open && !list) {
      list = h("ul", { role: "group" });
      row.append(list);
      this.fill(list, this.inside(this.program.groupOf(Number(row.dataset["item"]))), Number(row.getAttribute("aria-level")) + 1);
    }
    if (list) list.hidden = !open;
  }

  private focusable(row: HTMLElement, focus = false): void {
    this.current?.setAttribute("tabindex", "-1");
    this.current = row;
    row.setAttribute("tabindex", "0");
    if (focus) row.focus();
  }

  private visible(): HTMLElement[] {
    return [...this.tree.querySelectorAll<HTMLElement>("[role=treeitem]")].filter((row) => !row.closest("ul[hidden]"));
  }

  private act(row: HTMLElement): void {
    if (row.classList.contains("cmi-more")) row.dispatchEvent(new Event("cmi:more"));
    else if (row.dataset["item"] !== undefined) this.picked(Number(row.dataset["item"]));
  }

  private click(event: Event): void {
    const row = (event.target as Element).closest<HTMLElement>("[role=treeitem]");
    if (!row) return;
    this.focusable(row, true);
    if (row.hasAttribute("aria-expanded")) this.toggle(row, row.getAttribute("aria-expanded") !== "true");
    this.act(row);
  }

  private key(event: KeyboardEvent): void {
    const row = (event.target as Element).closest<HTMLElement>("[role=treeitem]");
    if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
    const open = row.getAttribute("aria-expanded");
    const rows = this.visible();
    const at = rows.indexOf(row);
    const step = { ArrowDown: rows[at + 1], ArrowUp: rows[at - 1], Home: rows[0], End: rows[rows.length - 1] }[event.key];
    if (step) this.focusable(step, true);
    else if (event.key === "ArrowRight" && open === "false") this.toggle(row, true);
    else if (event.key === "ArrowRight" && open === "true") { if (rows[at + 1]) this.focusable(rows[at + 1] as HTMLElement, true); }
    else if (event.key === "ArrowLeft" && open === "true") this.toggle(row, false);
    else if (event.key === "ArrowLeft") {
      const parent = row.parentElement?.closest<HTMLElement>("[role=treeitem]");
      if (parent) this.focusable(parent, true);
    } else if (event.key === "Enter" || event.key === " ") this.act(row);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
