// What stands in a box: two short lines, and how wide they make it. Pure, but for the measuring of letters that it is given.

import type { Size } from "./columns";
import type { Item, Program } from "./program";
import { opsText, t, type Text } from "./text";

export const HEIGHT = 38;
const LETTER = 6.6;
const WIDE = /[\u2e80-\uffff]/;
const [LEAST, MOST] = [84, 216];

export interface Label {
  title: string;
  sub: string;
}

export function label(program: Program, item: Item): Label {
  if (program.isGroup(item)) {
    const group = program.groupOf(item);
    return { title: groupTitle(program, group), sub: opsText(program.within(group).filter((i) => program.nodes[i]?.kind === "op").length) };
  }
  const box = program.nodes[item];
  if (!box) return { title: "", sub: "" };
  const type = box.types[0] ?? "";
  if (box.kind === "op") return { title: box.op, sub: short(type) };
  return { title: cut(box.name, 26), sub: `${t(box.kind)} ${short(type)}` };
}

export function groupTitle(program: Program, group: number): string {
  const found = program.groups[group];
  if (!found) return "";
  if (found.kind === "repeat") return t("block", found.number, found.of);
  return found.kind === "block" && ["then", "otherwise", "condition", "body"].includes(found.title) ? t(found.title as Text) : cut(found.title, 40);
}

/** Its shape alone, without spaces: `64×56×56`; the element type is the same in most boxes. */
function short(type: string): string {
  const space = type.indexOf(" ");
  return space < 0 ? type : type.slice(space + 1).replaceAll(" ", "");
}

/** The middle of a long name left out: both ends tell where it belongs. */
export function cut(name: string, most: number): string {
  if (name.length <= most) return name;
  const tail = Math.floor(most / 2);
  return `${name.slice(0, most - tail - 1)}…${name.slice(name.length - tail)}`;
}

/** Letters of East Asian scripts are twice as wide. */
export function letters(text: string): number {
  if (!WIDE.test(text)) return text.length;
  let sum = 0;
  for (const sign of text) sum += sign > "\u2e80" ? 1.8 : 1;
  return sum;
}

export function sizeOf(program: Program, item: Item): Size {
  const { title, sub } = label(program, item);
  // Beside the title there is room for a device, a time or bits: a change of colours moves nothing.
  const wide = Math.max(letters(title) * LETTER * 1.1 + (program.nodes[item]?.kind === "op" ? 66 : 34), letters(sub) * LETTER * 0.88 + 24);
  return { w: Math.round(Math.min(MOST, Math.max(LEAST, wide))), h: program.isGroup(item) ? HEIGHT + 10 : HEIGHT };
}
