// One model of the view: what is open in it, how it is laid out and coloured, and its stage.

import type { Theme } from "../page/theme";
import { plain, type Setter } from "./chunk";
import { Colouring, type Mode, palette, type Scale } from "./colours";
import type { Size } from "./columns";
import { label, sizeOf } from "./labels";
import { breathe, type Layout, Setting } from "./layout";
import type { Pair, Picture } from "./messages";
import { Sketch, type Style } from "./paint";
import { Folded, type Item, Program } from "./program";
import type { Stage } from "./stage";
import { t } from "./text";
import { hatch } from "../page/theme";

/** Up to here everything is open from the start. */
const SMALL = 90;
/** From here on a rough layout is shown until the real one is there. */
const LARGE = 400;

export function styleOf(theme: Theme): Style {
  return { theme, palette: palette(theme.dark), hatch: hatch(theme.colour.all, 0.6, false, 1) };
}

export class Side {
  readonly program: Program;
  open: Set<number>;
  folded: Folded;
  colouring: Colouring;
  sketch: Sketch | null = null;
  stage!: Stage;
  private layout: Layout | null = null;
  private turn = 0;
  private readonly sizes = new Map<Item, Size>();

  constructor(readonly picture: Picture, readonly number: 0 | 1, private readonly pairs: Pair[] | null) {
    this.program = new Program(picture);
    const blocks = this.program.foldable.filter((g) => this.program.groups[g]?.kind === "op");
    this.open = new Set(picture.nodes.length <= SMALL ? this.program.foldable : blocks);
    this.folded = new Folded(this.program, this.open);
    this.colouring = new Colouring(this.program, "family", null, pairs, number);
  }

  colour(mode: Mode, scale: Scale | null, style: Style): void {
    this.colouring = new Colouring(this.program, mode, scale, this.pairs, this.number);
    if (!this.layout) return;
    this.sketch = new Sketch(this.program, this.layout, this.colouring, this.open);
    this.stage.recolour(this.sketch);
    this.stage.restyle(style);
  }

  /** Lay out what is open now; resolves to whether nothing newer was asked for meanwhile. */
  async settle(set: Setter, style: () => Style, aspect: number, anchor: { from: Item; to: Item } | null = null): Promise<boolean> {
    const turn = ++this.turn;
    this.folded = new Folded(this.program, this.open);
    await breathe();
    const { folded } = this;
    const measure = (item: Item) => this.measured(item);
    if (folded.items.length > LARGE) {
      const rough = await new Setting(folded, (c) => Promise.resolve(plain(c)), measure, aspect).layout();
      await breathe();
      if (turn !== this.turn) return false;
      this.put(rough, style(), anchor);
      await breathe();
    }
    const layout = await new Setting(folded, set, measure, aspect, (done, of) => {
      if (turn === this.turn) this.stage.waiting(done < of && of > 3 ? t("laying", done, of) : "");
    }).layout();
    await breathe();
    if (turn !== this.turn) return false;
    this.stage.waiting("");
    this.put(layout, style(), anchor);
    return true;
  }

  private measured(item: Item): Size {
    const known = this.sizes.get(item) ?? sizeOf(this.program, item);
    this.sizes.set(item, known);
    return known;
  }

  private put(layout: Layout, style: Style, anchor: { from: Item; to: Item } | null): void {
    this.layout = layout;
    this.sketch = new Sketch(this.program, layout, this.colouring, this.open);
    this.stage.show(this.sketch, style, anchor);
  }

  get settled(): Layout | null {
    return this.layout;
  }

  /** The group that an item is, or the one it stands in: what a double click opens or closes. */
  groupAround(item: Item): number {
    if (this.program.isGroup(item)) {
      const group = this.program.groupOf(item);
      return this.program.groups[group]?.kind === "block" ? (this.program.groups[group]?.parent ?? -1) : group;
    }
    const own = this.program.blockOf(item);
    if (own >= 0) return own;
    const path = this.program.path(item).filter((g) => this.program.groups[g]?.kind !== "block");
    return path[path.length - 1] ?? -1;
  }

  /** Open everything that hides a node. */
  uncover(node: number): boolean {
    const closed = this.program.path(node).filter((g) => !this.folded.isOpen(g));
    for (const group of closed) this.open.add(group);
    return closed.length > 0;
  }

  /** Items whose texts hold every word of a search. */
  find(text: string): { nodes: number[]; items: Set<Item> } {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const nodes = this.program.nodes.flatMap((box, i) => {
      const all = `${box.name} ${box.op} ${box.types.join(" ")} ${box.where} ${this.colouring.look(i).tag}`.toLowerCase();
      return words.every((word) => all.includes(word)) ? [i] : [];
    });
    return { nodes, items: new Set(nodes.map((i) => this.folded.standing(i))) };
  }

  titleOf(item: Item): string {
    const box = this.program.nodes[item];
    return box ? box.name : label(this.program, item).title;
  }
}
