// A picture's graph: who reads whom, what stands in which group, and what is seen while some groups are closed. Pure.

import type { Box, Group, Picture } from "./messages";

/** What is drawn: a node by its place, a group by its place after all nodes. */
export type Item = number;

export interface Link {
  from: Item;
  to: Item;
  /** How many values it stands for. */
  count: number;
}

export class Program {
  readonly nodes: Box[];
  readonly groups: Group[];
  /** Places of the nodes that read each node. */
  readonly readers: number[][];
  /** Places of the nodes directly in each group; the last entry are those in none. */
  private readonly members: number[][];
  private readonly inner: number[][];
  /** The group that is a control flow operation, by that operation's place. */
  private readonly blocks = new Map<number, number>();

  constructor(readonly picture: Picture) {
    this.nodes = picture.nodes;
    this.groups = picture.groups;
    this.readers = this.nodes.map(() => []);
    this.members = Array.from({ length: this.groups.length + 1 }, () => []);
    this.inner = Array.from({ length: this.groups.length + 1 }, () => []);
    this.nodes.forEach((box, i) => {
      for (const arrow of box.inputs) this.readers[arrow.node]?.push(i);
      this.slot(this.members, box.group).push(i);
    });
    this.groups.forEach((group, g) => {
      if (group.kind === "op") this.blocks.set(group.owner, g);
      this.slot(this.inner, group.parent).push(g);
    });
  }

  private slot(rows: number[][], group: number): number[] {
    return rows[group < 0 ? this.groups.length : group] ?? [];
  }

  get size(): number {
    return this.nodes.length;
  }

  isGroup(item: Item): boolean {
    return item >= this.size;
  }

  groupOf(item: Item): number {
    return item - this.size;
  }

  itemOf(group: number): Item {
    return group + this.size;
  }

  /** The group of a control flow operation, or -1. */
  blockOf(node: number): number {
    return this.blocks.get(node) ?? -1;
  }

  childGroups(group: number): number[] {
    return this.slot(this.inner, group);
  }

  childNodes(group: number): number[] {
    return this.slot(this.members, group);
  }

  /** Every node in a group, at any depth. */
  within(group: number): number[] {
    return [...this.childNodes(group), ...this.childGroups(group).flatMap((g) => this.within(g))];
  }

  /** The groups around a node, the outermost first. */
  path(node: number): number[] {
    const found: number[] = [];
    for (let g = (this.nodes[node] as Box).group; g >= 0; g = (this.groups[g] as Group).parent) found.unshift(g);
    return found;
  }

  /** What can be opened and closed: not the blocks of an operation, which come with it. */
  get foldable(): number[] {
    return this.groups.flatMap((group, g) => (group.kind === "block" ? [] : [g]));
  }
}

/** What is seen while the groups in `open` are open, and the others closed. */
export class Folded {
  readonly items: Item[] = [];
  readonly links: Link[] = [];
  /** Of each seen item: the open group it stands in, or -1. */
  readonly container = new Map<Item, number>();
  private readonly seen = new Map<number, Item>();

  constructor(readonly program: Program, readonly open: ReadonlySet<number>) {
    this.walk(-1);
    this.connect();
  }

  isOpen(group: number): boolean {
    const found = this.program.groups[group] as Group;
    return found.kind === "block" ? true : this.open.has(group);
  }

  /** The item that stands for a node: itself, or the closed group around it. */
  standing(node: number): Item {
    const known = this.seen.get(node);
    if (known !== undefined) return known;
    const found = this.find(node);
    this.seen.set(node, found);
    return found;
  }

  private find(node: number): Item {
    for (const group of this.program.path(node)) {
      if (this.isOpen(group)) continue;
      const found = this.program.groups[group] as Group;
      return found.kind === "op" ? this.standing(found.owner) : this.program.itemOf(group);
    }
    const own = this.program.blockOf(node);
    return own >= 0 && this.isOpen(own) ? this.program.itemOf(own) : node;
  }

  private walk(group: number): void {
    const add = (item: Item) => {
      this.items.push(item);
      this.container.set(item, group);
    };
    for (const node of this.program.childNodes(group)) {
      const own = this.program.blockOf(node);
      if (own < 0 || !this.isOpen(own)) add(node);
    }
    for (const inner of this.program.childGroups(group)) {
      const closed = !this.isOpen(inner);
      // A closed control flow operation is a box like any other.
      if (closed && (this.program.groups[inner] as Group).kind === "op") continue;
      add(this.program.itemOf(inner));
      if (!closed) this.walk(inner);
    }
  }

  private connect(): void {
    const known = new Map<number, Link>();
    const most = this.program.size + this.program.groups.length;
    this.program.nodes.forEach((box, i) => {
      const to = this.standing(i);
      for (const arrow of box.inputs) {
        const from = this.standing(arrow.node);
        if (from === to) continue;
        const key = from * most + to;
        const link = known.get(key);
        if (link) link.count++;
        else {
          const made = { from, to, count: 1 };
          known.set(key, made);
          this.links.push(made);
        }
      }
    });
  }
}
