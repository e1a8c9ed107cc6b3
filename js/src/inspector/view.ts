// The whole Inspector: one model or two beside one another, their colours, lists and details.

import { h, mark, say } from "../page/dom";
import { provenanceMark, provenanceName } from "../page/icons";
import { button, choice, type Choice } from "../page/parts";
import { download } from "../files/picture";
import { readTheme, type Theme, watchTheme } from "../page/theme";
import type { Setter } from "./chunk";
import { type Mode, type Scale, scaleOf, stateOf } from "./colours";
import { details, type Other, overview } from "./details";
import { toPng, toSvg } from "./export";
import { legend } from "./legend";
import type { Pair, Scene } from "./messages";
import { Outline } from "./outline";
import type { Style } from "./paint";
import type { Item } from "./program";
import { Side, styleOf } from "./side";
import { Stage } from "./stage";
import { said } from "../text/said";
import { t } from "./text";
import { next, type Way } from "./walk";

const WAYS: Record<string, Way> = { ArrowUp: "up", ArrowDown: "down", ArrowLeft: "left", ArrowRight: "right" };
let numbers = 0;

export class View {
  readonly root: HTMLElement;
  readonly sides: Side[];
  private theme: Theme;
  private style: Style;
  private mode: Mode;
  private readonly modes: Mode[];
  private readonly scale: () => Scale | null;
  private readonly modeChoice: Choice;
  private readonly legend = h("div", { class: "cmi-legend cml-s", role: "group", "aria-label": t("legend") });
  private readonly panel: HTMLElement;
  private readonly status = h("p", { class: "cml-hidden", role: "status" });
  private readonly search: HTMLInputElement;
  private readonly count = h("span", { class: "cml-s cml-m", "aria-live": "polite" });
  private readonly outlines: Outline[];
  private readonly lists: HTMLElement;
  private readonly stages = h("div", { class: "cmi-stages" });
  private readonly partners: [Map<number, Pair>, Map<number, Pair>] = [new Map(), new Map()];
  private active: 0 | 1 = 0;
  private selected: Item | null = null;
  private came: Item | null = null;

  constructor(private readonly scene: Scene, private readonly set: Setter, note: string, el: HTMLElement, private readonly signal: AbortSignal) {
    const two = scene.pictures.length > 1;
    for (const pair of scene.pairs) {
      this.partners[0].set(pair.a, pair);
      this.partners[1].set(pair.b, pair);
    }
    this.sides = scene.pictures.slice(0, 2).map((picture, i) => new Side(picture, i as 0 | 1, two ? scene.pairs : null));
    this.scale = () => scaleOf(this.sides.map((side) => side.program));
    this.root = h("section", { class: "cml cml-inspector", "aria-label": `${t("inspector")}: ${scene.pictures.map((p) => p.name).join(", ")}`, "data-lm-suppress-shortcuts": "true", ...(two && { "data-two": "" }) });
    this.modes = [...(two ? ["changes" as const] : []), "family", "placing", "ran", "time", "bits"];
    this.mode = this.modes[0] as Mode;
    this.modeChoice = choice(t("colour"), this.modes.map((mode) => [mode, t(mode)]), this.mode, (mode) => this.colour(mode as Mode));
    this.search = h("input", { class: "cml-search", type: "search", placeholder: t("search"), "aria-label": t("search") });
    this.panel = h("div", { class: "cmi-panel", tabindex: "0", role: "region", "aria-label": t("details") });
    const help = `cmi-help-${++numbers}`;
    const stages = this.sides.map((side) => this.stage(side, help));
    this.outlines = this.sides.map((side) => new Outline(side.program, (item) => this.pick(side.number, item, true), (item) => this.word(side, item)));
    this.lists = h("div", { class: "cmi-lists", hidden: "" }, ...this.outlines.map((outline) => outline.element));
    this.stages.append(...stages);
    this.root.append(
      this.head(note), this.tools(), h("div", { class: "cmi-body" }, h("div", { class: "cmi-main" }, this.stages, this.legend, this.lists), this.panel), this.foot(help, two), this.status,
    );
    el.append(this.root);
    this.theme = readTheme(this.root);
    this.style = styleOf(this.theme);
    watchTheme(() => this.rethemed(), signal);
    this.root.addEventListener("keydown", (event) => this.key(event), { signal });
    this.describe();
    this.colour(this.mode);
  }

  /** Lay everything out; resolves when it stands. */
  async open(): Promise<void> {
    try {
      await Promise.all(this.sides.map((side) => side.settle(this.set, () => this.style, this.aspect(side))));
      this.root.dataset["ready"] = "";
    } catch (error) {
      this.sides.forEach((side) => side.stage.waiting(t("failed", String(error))));
    }
  }

  /** New times of a model, by a recording that was made meanwhile. */
  timed(number: number, told: Scene["pictures"][0]["timed"]): void {
    const side = this.sides[number];
    if (!side) return;
    side.picture.timed = told;
    this.colour(this.mode);
    this.describe();
  }

  private aspect(side: Side): number {
    const { w, h: high } = side.stage.size;
    return w / high;
  }

  private head(note: string): HTMLElement {
    const bar = h("div", { class: "cml-hd" });
    this.sides.forEach((side, i) => {
      if (i) bar.append(h("span", { class: "cml-m", "aria-hidden": "true" }, "↔"));
      bar.append(h("h2", {}, side.picture.name), h("span", { class: "cml-m cml-s cml-detail" }, side.picture.detail));
      if (side.picture.ran && this.sides.length < 2) bar.append(h("span", { class: "cml-bg" }, said(side.picture.ran)));
    });
    if (note) bar.append(h("span", { class: "cml-bg cml-off" }, note));
    const box = h("div", { class: "cml-top" }, bar);
    if (this.sides.length > 1) box.append(this.differences());
    return box;
  }

  private differences(): HTMLElement {
    const [a, b] = this.sides as [Side, Side];
    const count = (state: string) => this.scene.pairs.filter((pair) => stateOf(pair) === state).length;
    const ops = (side: Side, own: Map<number, Pair>) => side.program.nodes.filter((_, i) => !own.has(i)).length;
    const said = t("differences", count("changed"), ops(b, this.partners[1]), ops(a, this.partners[0]), count("same"), count("retyped"));
    return h("div", { class: "cml-bd" }, h("span", { class: "cml-bg" }, said), button(t("next"), () => this.difference()));
  }

  private tools(): HTMLElement {
    let timer: ReturnType<typeof setTimeout> | undefined;
    this.search.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.find(), 120);
    }, { signal: this.signal });
    this.search.addEventListener("keydown", (event) => { if (event.key === "Enter") this.toFound(); }, { signal: this.signal });
    const each = (act: (side: Side) => void) => () => this.sides.forEach(act);
    const zoom = h("span", { class: "cml-choice", role: "group", "aria-label": t("fit") });
    const named = (text: string, title: string, pressed: () => void) => {
      const made = button(text, pressed, "");
      made.setAttribute("aria-label", title);
      made.title = title;
      return made;
    };
    zoom.append(
      named("−", t("zoomOut"), each((side) => side.stage.zoom(1 / 1.4))), named(t("fit"), t("fit"), each((side) => side.stage.fit())), named("+", t("zoomIn"), each((side) => side.stage.zoom(1.4))),
    );
    const list = button(t("list"), () => this.toggleList(list));
    mark(list, "aria-pressed", "false");
    const folds = this.sides.some((side) => side.program.foldable.length)
      ? [button(t("expand"), () => this.foldAll(true)), button(t("collapse"), () => this.foldAll(false))] : [];
    const files = h("span", { class: "cml-choice", role: "group", "aria-label": t("save") }, named("PNG", `${t("save")} PNG`, () => void this.save("png")), named("SVG", `${t("save")} SVG`, () => void this.save("svg")));
    return h("div", { class: "cml-tools cmi-tools" }, h("span", { class: "cml-s cml-m" }, t("colour")), this.modeChoice.element, this.search, this.count, h("span", { class: "cml-sp" }), zoom, ...folds, list, files);
  }

  private foot(help: string, two: boolean): HTMLElement {
    const folded = this.sides.map((side) => side.picture.folded).reduce((a, b) => Math.max(a, b), 0);
    const foot = h("div", { class: "cml-ft" }, h("span", {}, t("keysShort")), h("span", {}, t("wheel")));
    if (folded) foot.append(h("span", {}, t("folded", folded)));
    foot.append(h("span", { class: "cml-pk" }, ...["measured", "apportioned", "estimated", "unavailable"].map((how) => h("span", { class: "cml-key" }, provenanceMark(how), provenanceName(how)))));
    foot.append(h("p", { class: "cml-hidden", id: help }, two ? `${t("keys")} ${t("keysTwo")}` : t("keys")));
    return foot;
  }

  private stage(side: Side, help: string): HTMLElement {
    side.stage = new Stage(side.picture.name, () => matchMedia("(prefers-reduced-motion: reduce)").matches, {
      picked: (item) => this.pick(side.number, item, false),
      toggled: (item) => this.toggle(side, item),
      entered: () => { this.active = side.number; },
    }, help, this.signal);
    if (this.sides.length < 2) return side.stage.element;
    return h("div", { class: "cmi-half" }, h("p", { class: "cml-s cmi-title" }, h("b", {}, side.picture.name), h("span", { class: "cml-m" }, ` ${said(side.picture.ran)}`)), side.stage.element);
  }

  private rethemed(): void {
    this.theme = readTheme(this.root);
    this.style = styleOf(this.theme);
    this.colour(this.mode);
  }

  private colour(mode: Mode): void {
    this.mode = mode;
    this.modeChoice.set(mode);
    const scale = this.scale();
    for (const side of this.sides) side.colour(mode, scale, this.style);
    this.outlines.forEach((outline) => outline.retell());
    this.tell(scale);
  }

  private tell(scale: Scale | null): void {
    const pictures = this.sides.map((side) => side.picture);
    this.legend.replaceChildren(...legend(this.mode, pictures, this.sides.flatMap((side) => side.colouring.legend()), scale, this.style.palette));
  }

  private word(side: Side, item: Item): string {
    return side.colouring.look(item).tag;
  }

  private pick(number: 0 | 1, item: Item | null, reveal: boolean): void {
    const side = this.sides[number] as Side;
    if (item !== null && reveal && !side.program.isGroup(item) && side.uncover(item)) {
      void this.resettle(side, null).then(() => this.pick(number, item, true));
      return;
    }
    if (item !== this.selected) this.came = this.selected;
    [this.active, this.selected] = [number, item];
    side.stage.select(item);
    this.outlines[number]?.select(item);
    if (item !== null && reveal) side.stage.reveal(item, true);
    this.link(side, item);
    this.describe();
    this.announce(side, item);
  }

  /** What belongs to it in the other model is shown and marked, too. */
  private link(side: Side, item: Item | null): void {
    const other = this.sides[1 - side.number];
    if (!other) return;
    const node = item === null ? null : this.partner(side, item);
    const theirs = node === null ? null : other.folded.standing(node);
    other.stage.select(theirs);
    this.outlines[other.number]?.select(node);
    if (theirs !== null) other.stage.reveal(theirs, false);
  }

  private partner(side: Side, item: Item): number | null {
    const node = side.program.isGroup(item) ? side.program.within(side.program.groupOf(item)).find((i) => this.partners[side.number].has(i)) : item;
    const pair = node === undefined ? undefined : this.partners[side.number].get(node);
    return pair ? (side.number ? pair.a : pair.b) : null;
  }

  private describe(): void {
    const side = this.sides[this.active] as Side;
    const item = this.selected;
    if (item === null) {
      this.panel.replaceChildren(...overview(side.program, (own) => this.pick(side.number, own, true)));
      return;
    }
    const other = this.sides[1 - side.number];
    const beside: Other | null = other && !side.program.isGroup(item)
      ? { program: other.program, pair: this.partners[side.number].get(item) ?? null, node: this.partner(side, item) } : null;
    const toggle = side.groupAround(item) >= 0 ? (own: Item) => this.toggle(side, own) : null;
    this.panel.replaceChildren(...details(side.program, item, beside, (own) => this.pick(side.number, own, true), toggle, side.program.isGroup(item) && side.folded.isOpen(side.program.groupOf(item))));
    this.panel.scrollTop = 0;
  }

  private announce(side: Side, item: Item | null): void {
    if (item === null) return;
    const box = side.program.nodes[item];
    const rank = side.folded.links.filter((link) => link.from === item).length;
    say(this.status, t("picked", side.titleOf(item), box ? `${box.op} ${box.types[0] ?? ""}` : t("group"), `${t("readers")} ${rank}; ${this.word(side, item)}`));
  }

  private toggle(side: Side, item: Item): void {
    const group = side.groupAround(item);
    if (group < 0) return;
    const closing = side.open.has(group);
    if (closing) side.open.delete(group);
    else side.open.add(group);
    const owner = side.program.groups[group]?.owner ?? -1;
    const closed = owner >= 0 ? owner : side.program.itemOf(group);
    const anchor = closing ? { from: side.program.itemOf(group), to: closed } : { from: closed, to: side.program.itemOf(group) };
    void this.resettle(side, anchor).then(() => this.pick(side.number, anchor.to, false));
  }

  private async resettle(side: Side, anchor: { from: Item; to: Item } | null): Promise<void> {
    await side.settle(this.set, () => this.style, this.aspect(side), anchor);
    if (this.search.value) this.find();
  }

  private foldAll(open: boolean): void {
    for (const side of this.sides) {
      side.open = new Set(open ? side.program.foldable : []);
      void this.resettle(side, null).then(() => {
        side.stage.fit();
        if (side.number === this.active && this.selected !== null && !side.program.isGroup(this.selected)) this.pick(side.number, side.folded.standing(this.selected), false);
      });
    }
  }

  private toggleList(pressed: HTMLElement): void {
    this.lists.hidden = !this.lists.hidden;
    mark(pressed, "aria-pressed", String(!this.lists.hidden));
    if (!this.lists.hidden) this.outlines[this.active]?.select(this.selected);
  }

  private find(): void {
    const text = this.search.value.trim();
    let all = 0;
    let hits = 0;
    this.sides.forEach((side, i) => {
      const found = text ? side.find(text) : null;
      side.stage.search(found?.items ?? null);
      this.outlines[i]?.all(found?.nodes ?? null);
      all += side.program.size;
      hits += found?.nodes.length ?? 0;
    });
    say(this.count, text ? t("found", hits, all) : "");
  }

  /** Go to what was found, from one to the next. */
  private toFound(): void {
    const text = this.search.value.trim();
    if (!text) return;
    const side = this.sides.find((s) => s.number === this.active && s.find(text).nodes.length) ?? this.sides.find((s) => s.find(text).nodes.length);
    if (!side) return;
    const { nodes } = side.find(text);
    const at = this.selected === null ? -1 : nodes.indexOf(this.selected);
    this.pick(side.number, nodes[(at + 1) % nodes.length] as number, true);
  }

  private difference(): void {
    const [a, b] = this.sides;
    if (!a || !b) return;
    const all: [0 | 1, number][] = [
      ...a.program.nodes.flatMap((_, i): [0 | 1, number][] => { const pair = this.partners[0].get(i); return !pair || stateOf(pair) === "changed" ? [[0, i]] : []; }),
      ...b.program.nodes.flatMap((_, i): [0 | 1, number][] => (this.partners[1].has(i) ? [] : [[1, i]])),
    ];
    const at = all.findIndex(([number, node]) => number === this.active && node === this.selected);
    const chosen = all[(at + 1) % Math.max(1, all.length)];
    if (chosen) this.pick(chosen[0], chosen[1], true);
  }

  private async save(kind: "png" | "svg"): Promise<void> {
    for (const side of this.sides) {
      if (!side.sketch) continue;
      const name = `${side.picture.name.replace(/[^A-Za-z0-9_-]+/g, "-").slice(0, 60) || "model"}-graph.${kind}`;
      if (kind === "svg") download(name, toSvg(side.sketch, this.style), "image/svg+xml");
      else download(name, await toPng(side.sketch, this.style), "image/png");
      say(this.status, t("exported", name));
    }
  }

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const side = this.sides[this.active] as Side;
    if (event.target instanceof HTMLInputElement) {
      if (event.key === "Escape") { this.search.value = ""; this.find(); side.stage.canvas.focus(); event.stopPropagation(); }
      return;
    }
    const onCanvas = event.target === side.stage.canvas;
    const acted = this.common(event.key, side) || (onCanvas && this.onStage(event.key, side));
    if (!acted) return;
    event.preventDefault();
    event.stopPropagation();
  }

  private common(key: string, side: Side): boolean {
    switch (key) {
      case "/": this.search.focus(); return true;
      case "+": case "=": side.stage.zoom(1.3); return true;
      case "-": case "_": side.stage.zoom(1 / 1.3); return true;
      case "0": side.stage.fit(); return true;
      case "c": case "C": this.colour(this.modes[(this.modes.indexOf(this.mode) + 1) % this.modes.length] as Mode); say(this.status, `${t("colour")} ${t(this.mode)}`); return true;
      case "n": case "N": this.difference(); return this.sides.length > 1;
      case "x": case "X": this.sides[1 - side.number]?.stage.canvas.focus(); return this.sides.length > 1;
      case "Escape": this.pick(side.number, null, false); side.stage.canvas.focus(); return true;
      default: return false;
    }
  }

  private onStage(key: string, side: Side): boolean {
    const layout = side.settled;
    const way = WAYS[key];
    if (way && layout) {
      const item = next(side.folded, layout, side.number === this.active ? this.selected : null, way, this.came);
      if (item !== null) this.walk(side, item);
      return true;
    }
    switch (key) {
      case "Home": this.walk(side, side.folded.items[0] ?? null); return true;
      case "End": this.walk(side, side.folded.items.filter((i) => layout?.boxes.has(i)).pop() ?? null); return true;
      case "Enter": if (this.selected !== null) this.panel.focus(); return true;
      case " ": if (this.selected !== null) this.toggle(side, this.selected); return true;
      default: return false;
    }
  }

  private walk(side: Side, item: Item | null): void {
    if (item === null) return;
    this.pick(side.number, item, false);
    side.stage.reveal(item, true);
  }
}
