// Where the arrow keys lead: up and down along the edges, left and right to what stands beside. Pure.

import type { Layout } from "./layout";
import type { Folded, Item } from "./program";

export type Way = "up" | "down" | "left" | "right";

/** The item next to one, or that item itself where there is none; `came` is where one was before. */
export function next(folded: Folded, layout: Layout, item: Item | null, way: Way, came: Item | null): Item | null {
  if (item === null) return first(folded, layout);
  if (way === "left" || way === "right") return beside(layout, item, way);
  const links = folded.links.filter((link) => (way === "down" ? link.from : link.to) === item);
  const ends = links.map((link) => (way === "down" ? link.to : link.from));
  // Going back the way one came is what undoes a step.
  if (came !== null && ends.includes(came)) return came;
  return nearest(layout, item, ends) ?? item;
}

export function first(folded: Folded, layout: Layout): Item | null {
  return folded.items.find((item) => layout.boxes.has(item)) ?? null;
}

function nearest(layout: Layout, item: Item, ends: Item[]): Item | null {
  const own = centre(layout, item);
  let best: Item | null = null;
  let least = Infinity;
  for (const end of ends) {
    const at = centre(layout, end);
    const far = own && at ? Math.hypot(at.x - own.x, at.y - own.y) : 1e12;
    if (far < least) { least = far; best = end; }
  }
  return best;
}

/** The closest box on that side whose height overlaps with the item's. */
function beside(layout: Layout, item: Item, way: "left" | "right"): Item {
  const own = layout.boxes.get(item);
  if (!own) return item;
  let best = item;
  let least = Infinity;
  for (const [other, rect] of layout.boxes) {
    const gap = way === "right" ? rect.x - own.x : own.x - rect.x;
    const apart = Math.abs(rect.y + rect.h / 2 - own.y - own.h / 2);
    if (gap <= 1 || apart > own.h) continue;
    const cost = gap + 3 * apart;
    if (cost < least) { least = cost; best = other; }
  }
  return best;
}

function centre(layout: Layout, item: Item): { x: number; y: number } | null {
  const rect = layout.boxes.get(item);
  return rect ? { x: rect.x + rect.w / 2, y: rect.y + rect.h / 2 } : null;
}
