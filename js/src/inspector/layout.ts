// Where everything of a folded program stands: containers from the inside out, each in columns, each column by a setter.

import { type Chunk, type ChunkEdge, isBottom, isTop, type Point, type Settled, type Setter } from "./chunk";
import { columns, layered, type Size } from "./columns";
import type { Folded, Item } from "./program";

export interface Rect extends Point, Size {}

/** A line: from an item, on its way to some. */
export interface Wire {
  points: Point[];
  from: Item;
  to: Item[];
  /** Whether it ends at an item, where the arrow's head belongs. */
  head: boolean;
}

export interface Layout extends Size {
  boxes: Map<Item, Rect>;
  frames: { group: number; rect: Rect }[];
  wires: Wire[];
}

export interface Progress {
  (done: number, of: number): void;
}

/** Lets the page do what it waits for: thousands of operations are laid out in pieces. */
export function breathe(): Promise<void> {
  return new Promise((done) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => { port1.close(); done(); };
    port2.postMessage(0);
  });
}

/** Links between two breaths. */
const PIECE = 1500;
const PAD = 16;
const HEAD = 30;
const GUTTER = 46;

interface Segment {
  from: Item | null;
  to: Item | null;
  /** The item whose value it carries. */
  key: Item;
  targets: Item[];
}

/** A container that is set: its inside, and where values cross its border, from its left edge. */
interface Part extends Size {
  boxes: [Item, Rect][];
  frames: { group: number; rect: Rect }[];
  wires: Wire[];
  ins: Map<Item, number>;
  outs: Map<Item, number>;
}

export class Setting {
  private readonly segments = new Map<number, Map<string, Segment>>();
  private done = 0;
  private all = 0;

  constructor(
    private readonly folded: Folded, private readonly set: Setter, private readonly measure: (item: Item) => Size,
    private readonly aspect: number, private readonly progress: Progress = () => {},
  ) {
  }

  async layout(): Promise<Layout> {
    let count = 0;
    for (const link of this.folded.links) {
      this.spread(link.from, link.to);
      if (!(++count % PIECE)) await breathe();
    }
    const part = await this.container(-1);
    return { w: part.w, h: part.h, boxes: new Map(part.boxes), frames: part.frames, wires: part.wires };
  }

  /** A link becomes a segment in each container that it passes. */
  private spread(from: Item, to: Item): void {
    const [up, down] = [this.chain(from), this.chain(to)];
    const meets = up.find((step) => down.some((other) => other.container === step.container));
    if (!meets) return;
    for (const step of up) {
      if (step === meets) break;
      this.add(step.container, step.item, null, from, to);
    }
    for (const step of down) {
      if (step.container === meets.container) {
        if (step.item !== meets.item) this.add(step.container, meets.item, step.item, from, to);
        break;
      }
      this.add(step.container, null, step.item, from, to);
    }
  }

  private chain(item: Item): { container: number; item: Item }[] {
    const found: { container: number; item: Item }[] = [];
    for (let at: Item = item; ;) {
      const container = this.folded.container.get(at) ?? -1;
      found.push({ container, item: at });
      if (container < 0) return found;
      at = this.folded.program.itemOf(container);
    }
  }

  private add(container: number, from: Item | null, to: Item | null, key: Item, target: Item): void {
    const rows = this.segments.get(container) ?? new Map<string, Segment>();
    this.segments.set(container, rows);
    const name = `${from} ${to} ${key}`;
    const known = rows.get(name);
    if (known) known.targets.push(target);
    else rows.set(name, { from, to, key, targets: [target] });
  }

  private isFrame(item: Item): boolean {
    const program = this.folded.program;
    return program.isGroup(item) && this.folded.isOpen(program.groupOf(item));
  }

  /** Items of a container in the order in which they run. */
  private children(container: number): Item[] {
    const program = this.folded.program;
    const first = (item: Item): number => (program.isGroup(item) ? Math.min(...program.within(program.groupOf(item))) : item);
    const found: [number, Item][] = [];
    for (const item of this.folded.items) if (this.folded.container.get(item) === container) found.push([first(item), item]);
    return found.sort((a, b) => a[0] - b[0]).map(([, item]) => item);
  }

  private async container(container: number): Promise<Part> {
    const items = this.children(container);
    const inner = new Map<Item, Part>();
    for (const item of items) if (this.isFrame(item)) inner.set(item, await this.container(this.folded.program.groupOf(item)));
    const segments = [...(this.segments.get(container)?.values() ?? [])];
    return new Container(this, items, inner, segments, container < 0).settle(this.aspect);
  }

  sizeOf(item: Item): Size {
    return this.measure(item);
  }

  groupOf(item: Item): number {
    return this.folded.program.groupOf(item);
  }

  async column(chunk: Chunk): Promise<Settled> {
    this.progress(this.done, ++this.all);
    await breathe();
    const found = await this.set(chunk);
    this.progress(++this.done, this.all);
    return found;
  }
}

/** The inside of one container, column by column. */
class Container {
  private readonly place: Map<Item, number>;
  private readonly sizes: Size[];
  private column: number[] = [];
  private local: number[] = [];
  /** Per column: value -> number at its top and its bottom. */
  private readonly tops: Map<Item, number>[] = [];
  private readonly bottoms: Map<Item, number>[] = [];
  private readonly chunks: Chunk[] = [];
  private readonly meant: Segment[][] = [];

  constructor(
    private readonly whole: Setting, private readonly items: Item[], private readonly inner: Map<Item, Part>,
    private readonly segments: Segment[], private readonly root: boolean,
  ) {
    this.place = new Map(items.map((item, i) => [item, i]));
    this.sizes = items.map((item) => inner.get(item) ?? whole.sizeOf(item));
  }

  async settle(aspect: number): Promise<Part> {
    this.split(aspect);
    const set = await Promise.all(this.chunks.map((chunk) => this.whole.column(chunk)));
    return this.joined(set);
  }

  private at(item: Item): number {
    return this.place.get(item) as number;
  }

  private split(aspect: number): void {
    const links = this.segments.flatMap((s): [number, number][] => (s.from === null || s.to === null ? [] : [[this.at(s.from), this.at(s.to)]]));
    const found = layered(this.items.length, links);
    const cut = columns(this.sizes, found, links, aspect, this.root ? 1100 : 1500);
    this.column = found.layer.map((l) => cut[l] as number);
    const count = Math.max(0, ...this.column) + 1;
    for (let c = 0; c < count; c++) {
      this.chunks.push({ items: [], tops: 0, bottoms: 0, edges: [] });
      this.tops.push(new Map());
      this.bottoms.push(new Map());
      this.meant.push([]);
    }
    this.items.forEach((item, i) => {
      const chunk = this.chunks[this.column[i] as number] as Chunk;
      this.local.push(chunk.items.length);
      chunk.items.push({ ...(this.sizes[i] as Size), ports: this.ports(item) });
    });
    for (const segment of this.segments) this.put(segment);
  }

  private ports(item: Item): Chunk["items"][0]["ports"] {
    const part = this.inner.get(item);
    if (!part) return [];
    return [
      ...this.segments.filter((s) => s.to === item).map((s) => s.key).filter((key, i, all) => all.indexOf(key) === i)
        .map((key) => ({ id: `i${key}`, x: part.ins.get(key) ?? part.w / 2, side: "NORTH" as const })),
      ...this.segments.filter((s) => s.from === item).map((s) => s.key).filter((key, i, all) => all.indexOf(key) === i)
        .map((key) => ({ id: `o${key}`, x: part.outs.get(key) ?? part.w / 2, side: "SOUTH" as const })),
    ];
  }

  private put(segment: Segment): void {
    const { from, to, key } = segment;
    const [p, q] = [from === null ? -1 : (this.column[this.at(from)] as number), to === null ? -1 : (this.column[this.at(to)] as number)];
    const source = from === null ? null : { place: this.local[this.at(from)] as number, ...(this.inner.has(from) && { port: `o${key}` }) };
    const target = to === null ? null : { place: this.local[this.at(to)] as number, ...(this.inner.has(to) && { port: `i${key}` }) };
    if (source && target && p === q) this.edge(p, { from: source, to: target }, segment);
    else {
      if (source) {
        const known = this.bottoms[p]?.has(key);
        const bottom = this.number(this.bottoms, p, key, "bottoms");
        if (!known) this.edge(p, { from: source, to: { bottom } }, { ...segment, to: null });
      }
      if (target) this.edge(q, { from: { top: this.number(this.tops, q, key, "tops") }, to: target }, { ...segment, from: null });
    }
  }

  private number(rows: Map<Item, number>[], column: number, key: Item, what: "tops" | "bottoms"): number {
    const row = rows[column] as Map<Item, number>;
    const known = row.get(key);
    if (known !== undefined) return known;
    row.set(key, row.size);
    (this.chunks[column] as Chunk)[what] = row.size;
    return row.size - 1;
  }

  private edge(column: number, edge: ChunkEdge, segment: Segment): void {
    (this.chunks[column] as Chunk).edges.push(edge);
    (this.meant[column] as Segment[]).push(segment);
  }

  private joined(set: Settled[]): Part {
    const crossing = this.crossing();
    const several = set.length > 1;
    const [left, right] = this.root ? [GUTTER, GUTTER / 2] : [PAD, PAD];
    const above = (this.root ? 8 : HEAD) + (several ? 22 : 6);
    const high = Math.max(...set.map((s) => s.h), 0);
    const lanes = Math.min(crossing.size, 14);
    const below = several ? 14 + lanes * 6 + 6 : 8;
    const part: Part = { w: 0, h: above + high + below + (this.root ? 8 : 6), boxes: [], frames: [], wires: [], ins: new Map(), outs: new Map() };
    const lefts: number[] = [];
    let x = left + (several && !this.root ? GUTTER - PAD : 0);
    set.forEach((s, c) => {
      lefts.push(x);
      this.drop(part, s, c, x, above);
      x += s.w + GUTTER;
    });
    part.w = x - GUTTER + right;
    this.between(part, set, lefts, above, high, crossing);
    return part;
  }

  /** Values that leave a column for another, or come in for several: each has a lane of its own. */
  private crossing(): Map<Item, number> {
    const lane = new Map<Item, number>();
    for (const row of this.tops) for (const key of row.keys()) if (!lane.has(key)) lane.set(key, lane.size);
    return lane;
  }

  private drop(part: Part, set: Settled, column: number, x: number, y: number): void {
    const chunk = this.chunks[column] as Chunk;
    this.items.forEach((item, i) => {
      if (this.column[i] !== column) return;
      const at = set.items[this.local[i] as number] as Point;
      const rect = { x: x + at.x, y: y + at.y, ...(this.sizes[i] as Size), };
      const inner = this.inner.get(item);
      if (inner) this.nest(part, inner, item, { x: rect.x, y: rect.y, w: inner.w, h: inner.h });
      else part.boxes.push([item, { x: rect.x, y: rect.y, w: rect.w, h: rect.h }]);
    });
    chunk.edges.forEach((edge, i) => {
      const segment = (this.meant[column] as Segment[])[i] as Segment;
      const points = (set.edges[i] ?? []).map((p) => ({ x: x + p.x, y: y + p.y }));
      const frame = segment.to !== null && this.inner.get(segment.to);
      const head = !isBottom(edge.to) && !(frame && frame.ins.has(segment.key));
      if (points.length) part.wires.push({ points: isTop(edge.from) ? points : points, from: segment.key, to: segment.targets, head });
    });
  }

  private nest(part: Part, inner: Part, item: Item, rect: Rect): void {
    part.frames.push({ group: this.whole.groupOf(item), rect });
    for (const [own, box] of inner.boxes) part.boxes.push([own, { ...box, x: box.x + rect.x, y: box.y + rect.y }]);
    for (const frame of inner.frames) part.frames.push({ group: frame.group, rect: { ...frame.rect, x: frame.rect.x + rect.x, y: frame.rect.y + rect.y } });
    for (const wire of inner.wires) part.wires.push({ ...wire, points: wire.points.map((p) => ({ x: p.x + rect.x, y: p.y + rect.y })) });
  }

  /** From the foot of a column to the heads of others, and through the container's own border. */
  private between(part: Part, set: Settled[], lefts: number[], above: number, high: number, lanes: Map<Item, number>): void {
    const entries = new Map<Item, { x: number; column: number }[]>();
    this.tops.forEach((row, c) => row.forEach((number, key) => {
      const list = entries.get(key) ?? [];
      list.push({ x: (lefts[c] as number) + ((set[c] as Settled).tops[number] as number), column: c });
      entries.set(key, list);
    }));
    const targets = (key: Item, column: number) => (this.meant[column] as Segment[]).filter((s) => s.from === null && s.key === key).flatMap((s) => s.targets);
    const exits = new Map<Item, { x: number; y: number; column: number }>();
    this.bottoms.forEach((row, c) => row.forEach((number, key) => {
      const s = set[c] as Settled;
      exits.set(key, { x: (lefts[c] as number) + (s.bottoms[number] as number), y: above + s.h, column: c });
    }));
    for (const [key, ends] of entries) {
      const lane = (lanes.get(key) ?? 0) % 14;
      const exit = exits.get(key);
      if (!exit) part.ins.set(key, (ends[0] as { x: number }).x);
      ends.forEach((end, i) => {
        const to = targets(key, end.column);
        const top = above - 6 - (lane % 4) * 4;
        const points = exit
          ? this.around(exit, end, above + high + 12 + lane * 6, (lefts[end.column] as number) - 12 - (lane % 5) * 5, top, above)
          : this.inwards(ends[0] as { x: number }, end, i, top, above);
        part.wires.push({ points, from: key, to, head: false });
      });
    }
    const out = new Map(this.segments.filter((s) => s.to === null).map((s) => [s.key, s.targets]));
    for (const [key, to] of out) {
      const exit = exits.get(key);
      if (!exit) continue;
      part.outs.set(key, exit.x);
      part.wires.push({ points: [{ x: exit.x, y: exit.y }, { x: exit.x, y: part.h }], from: key, to, head: false });
    }
  }

  private around(from: Point, to: { x: number }, bus: number, gutter: number, top: number, above: number): Point[] {
    return [
      { x: from.x, y: from.y }, { x: from.x, y: bus }, { x: gutter, y: bus }, { x: gutter, y: top }, { x: to.x, y: top }, { x: to.x, y: above },
    ];
  }

  private inwards(first: { x: number }, end: { x: number }, i: number, top: number, above: number): Point[] {
    if (!i) return [{ x: first.x, y: 0 }, { x: first.x, y: above }];
    return [{ x: first.x, y: 0 }, { x: first.x, y: top }, { x: end.x, y: top }, { x: end.x, y: above }];
  }
}
