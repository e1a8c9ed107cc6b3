// One column of items to be set by a layout: what goes in, what comes out, and a plain layout for when there is no other. Pure.

import { GAP, layered, ROW, type Size } from "./columns";

/** An end of an edge: an item, and of an open group the port on its border. */
export interface End {
  place: number;
  port?: string;
}

export interface ChunkPort {
  id: string;
  /** From the left edge of the item. */
  x: number;
  side: "NORTH" | "SOUTH";
}

export interface ChunkItem extends Size {
  ports: ChunkPort[];
}

export interface ChunkEdge {
  from: End | { top: number };
  to: End | { bottom: number };
}

/** Items, edges among them, and values that come in at the top or leave at the bottom. */
export interface Chunk {
  items: ChunkItem[];
  tops: number;
  bottoms: number;
  edges: ChunkEdge[];
}

export interface Point {
  x: number;
  y: number;
}

/** Where everything stands; `tops` and `bottoms` are the x of what comes in and leaves. */
export interface Settled extends Size {
  items: Point[];
  tops: number[];
  bottoms: number[];
  edges: Point[][];
}

export type Setter = (chunk: Chunk) => Promise<Settled>;

export const isTop = (end: ChunkEdge["from"]): end is { top: number } => "top" in end;
export const isBottom = (end: ChunkEdge["to"]): end is { bottom: number } => "bottom" in end;

/** Layers by the longest path, each ordered by the mean place of what it reads: fast, and no more than that. */
export function plain(chunk: Chunk): Settled {
  const links = chunk.edges.flatMap((e): [number, number][] => (isTop(e.from) || isBottom(e.to) ? [] : [[e.from.place, e.to.place]]));
  const found = layered(chunk.items.length, links);
  const rows: number[][] = Array.from({ length: found.count }, () => []);
  found.layer.forEach((l, i) => (rows[l] as number[]).push(i));
  const sources: number[][] = chunk.items.map(() => []);
  for (const [from, to] of links) (sources[to] as number[]).push(from);
  const items: Point[] = chunk.items.map(() => ({ x: 0, y: 0 }));
  const middle = (i: number) => (items[i] as Point).x + (chunk.items[i] as Size).w / 2;
  let y = ROW / 2;
  let width = 0;
  for (const row of rows) {
    const mean = (i: number) => {
      const from = sources[i] as number[];
      return from.length ? from.reduce((sum, s) => sum + middle(s), 0) / from.length : 0;
    };
    const wanted = new Map(row.map((i) => [i, mean(i) - (chunk.items[i] as Size).w / 2]));
    row.sort((a, b) => (wanted.get(a) as number) - (wanted.get(b) as number));
    let x = 0;
    let high = 0;
    for (const i of row) {
      const size = chunk.items[i] as Size;
      x = Math.max(x, wanted.get(i) as number);
      items[i] = { x, y };
      x += size.w + GAP;
      high = Math.max(high, size.h);
    }
    width = Math.max(width, x - GAP);
    y += high + ROW;
  }
  return routed(chunk, items, { w: Math.max(width, 40), h: y - ROW / 2 });
}

/** Straight edges between items that stand already. */
export function routed(chunk: Chunk, items: Point[], size: Size): Settled {
  const at = (end: End, side: "NORTH" | "SOUTH"): Point => {
    const [item, place] = [chunk.items[end.place] as ChunkItem, items[end.place] as Point];
    const port = item.ports.find((p) => p.id === end.port);
    return { x: place.x + (port ? port.x : item.w / 2), y: place.y + (side === "SOUTH" ? item.h : 0) };
  };
  const tops = new Array<number>(chunk.tops).fill(size.w / 2);
  const bottoms = new Array<number>(chunk.bottoms).fill(size.w / 2);
  for (const e of chunk.edges) {
    if (isTop(e.from) && !isBottom(e.to)) tops[e.from.top] = at(e.to, "NORTH").x;
    if (isBottom(e.to) && !isTop(e.from)) bottoms[e.to.bottom] = at(e.from, "SOUTH").x;
  }
  const edges = chunk.edges.map((e) => [
    isTop(e.from) ? { x: tops[e.from.top] as number, y: 0 } : at(e.from, "SOUTH"),
    isBottom(e.to) ? { x: bottoms[e.to.bottom] as number, y: size.h } : at(e.to, "NORTH"),
  ]);
  return { ...size, items, tops, bottoms, edges };
}
