import assert from "node:assert/strict";
import { test } from "node:test";

import { between, fitting, showing, zoomAt } from "../src/inspector/camera";
import { plain } from "../src/inspector/chunk";
import { Colouring, scaleOf, stateOf, step, STEPS } from "../src/inspector/colours";
import { columns, layered } from "../src/inspector/columns";
import { escape } from "../src/inspector/export";
import { type Layout, Setting } from "../src/inspector/layout";
import type { Box, Group, Picture } from "../src/inspector/messages";
import { Folded, Program } from "../src/inspector/program";
import { LANGUAGES } from "../src/inspector/text";
import { next } from "../src/inspector/walk";

const box = (name: string, reads: number[], more: Partial<Box> = {}): Box => ({
  name, op: "relu", family: "activation", kind: "op", group: -1, inputs: reads.map((node) => ({ param: "x", node, result: 0 })),
  types: ["fp32 1 × 4"], bytes: 16, params: [], weights: [], bits: null, where: "", ...more,
});
const group = (kind: Group["kind"], parent: number, owner = -1): Group => ({ title: kind, kind, parent, owner, number: 1, of: 2 });
const picture = (nodes: Box[], groups: Group[] = []): Picture => ({
  name: "net", detail: "", nodes, groups, ran: "", device: "", folded: 0,
  placing: { title: "M4", rows: {}, sources: {}, missing: "", how: "estimated" }, timed: { title: "", runs: 0, rows: {}, missing: "" },
});
const settled = (program: Program, open: number[]): Promise<Layout> =>
  new Setting(new Folded(program, new Set(open)), (chunk) => Promise.resolve(plain(chunk)), () => ({ w: 100, h: 40 }), 1.6).layout();

/** in → [a → b] → c, and in → c beside the group. */
const grouped = () => new Program(picture([box("in", []), box("a", [0], { group: 0 }), box("b", [1], { group: 0 }), box("c", [2, 0])], [group("scope", -1)]));

test("a closed group stands for what is in it, and its edges are its members'", () => {
  const folded = new Folded(grouped(), new Set());
  assert.deepEqual(folded.items, [0, 3, 4]);
  assert.deepEqual(folded.links.map((l) => [l.from, l.to]), [[0, 4], [4, 3], [0, 3]]);
  assert.equal(folded.standing(1), 4);
});

test("an open loop is a frame with its blocks; closed it is a box like any other", () => {
  const nodes = [box("in", []), box("loop", [0], { op: "while_loop" }), box("step", [], { group: 1 }), box("out", [1])];
  const program = new Program(picture(nodes, [group("op", -1, 1), group("block", 0, 1)]));
  assert.deepEqual(new Folded(program, new Set()).items, [0, 1, 3]);
  const open = new Folded(program, new Set([0]));
  assert.deepEqual(open.items, [0, 3, 4, 5, 2]);
  assert.deepEqual(open.links.map((l) => [l.from, l.to]), [[0, 4], [4, 3]]);
});

test("edges into and out of an open group meet at its border, without a gap", async () => {
  const layout = await settled(grouped(), [0]);
  const frame = layout.frames[0]?.rect;
  assert.ok(frame);
  const touches = (y: number) => layout.wires.flatMap((w) => w.points).filter((p) => Math.abs(p.y - y) < 0.01 && p.x >= frame.x && p.x <= frame.x + frame.w);
  assert.equal(touches(frame.y).length, 2);
  assert.equal(touches(frame.y + frame.h).length, 2);
  assert.equal(new Set(touches(frame.y).map((p) => p.x)).size, 1);
  for (const item of [1, 2]) {
    const rect = layout.boxes.get(item);
    assert.ok(rect && rect.x >= frame.x && rect.y >= frame.y && rect.x + rect.w <= frame.x + frame.w && rect.y + rect.h <= frame.y + frame.h);
  }
});

test("a long chain is set in columns, every edge is a line from its source to its reader, and no boxes overlap", async () => {
  const program = new Program(picture(Array.from({ length: 120 }, (_, i) => box(`op${i}`, i ? [i - 1, ...(i % 9 === 8 ? [i - 8] : [])] : []))));
  const layout = await settled(program, []);
  assert.ok(layout.w / layout.h > 0.7 && layout.w / layout.h < 4, `${layout.w} by ${layout.h}`);
  const rects = [...layout.boxes.values()];
  rects.forEach((a, i) => rects.slice(i + 1).forEach((b) => assert.ok(a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y)));
  for (let i = 1; i < 120; i++) assert.ok(layout.wires.some((w) => w.head && w.from === i - 1 && w.to.includes(i)), `${i - 1} to ${i}`);
});

test("columns are cut where the fewest values cross", () => {
  const links: [number, number][] = [];
  // Layers of five: beside the chain one value goes from the first to the last of each.
  for (let i = 1; i < 60; i++) links.push([i - 1, i], ...(i % 5 === 4 ? [[i - 4, i] as [number, number]] : []));
  const found = layered(60, links);
  const cut = columns(found.layer.map(() => ({ w: 100, h: 40 })), found, links, 1.6);
  const first = cut.findIndex((c) => c === 1);
  assert.ok(first > 0 && first % 5 === 0, `cut before ${first}`);
});

test("what has no place above it stands just above its reader", () => {
  assert.deepEqual(layered(4, [[0, 1], [1, 3], [2, 3]]).layer, [0, 1, 1, 2]);
});

test("unknown is hatched in every mode, and never a colour, a zero or the cheapest step", () => {
  const program = new Program(picture([box("a", []), box("w", [0], { weights: [{ param: "weight", shape: "4", bits: null, bytes: 4, how: "", users: 1 }] })]));
  for (const mode of ["placing", "time", "ran"] as const) {
    const look = new Colouring(program, mode, null, null, 0).look(0);
    assert.deepEqual([look.colour, look.known, look.tag], [null, false, "?"]);
  }
  const bits = new Colouring(program, "bits", null, null, 0);
  assert.deepEqual([bits.look(0).known, bits.look(1).known], [true, false]);
});

test("times fall on a logarithmic scale, the least first and the most last", () => {
  const scale = { low: 1e-6, high: 1e-3 };
  assert.deepEqual([1e-6, 1e-3, 3e-5, 1].map((s) => step(s, scale)), [0, STEPS - 1, 3, STEPS - 1]);
  assert.equal(scaleOf([new Program(picture([]))]), null);
});

test("what is in no pair was removed here and added there", () => {
  const program = new Program(picture([box("a", []), box("b", [0]), box("c", [1])]));
  const pairs = [{ a: 0, b: 0, changes: [] }, { a: 1, b: 1, changes: ["precision", "bits"] }];
  const states = (side: 0 | 1) => [0, 1, 2].map((i) => new Colouring(program, "changes", null, pairs, side).change(i));
  assert.deepEqual(states(0), ["same", "changed", "removed"]);
  assert.deepEqual(states(1), ["same", "changed", "added"]);
  assert.equal(stateOf({ a: 0, b: 0, changes: ["precision"] }), "retyped");
});

test("arrows follow the edges, and lead back the way one came", async () => {
  const program = new Program(picture([box("a", []), box("b", [0]), box("c", [0]), box("d", [1, 2])]));
  const [folded, layout] = [new Folded(program, new Set()), await settled(program, [])];
  assert.equal(next(folded, layout, null, "down", null), 0);
  assert.equal(next(folded, layout, 3, "up", 2), 2);
  assert.equal(next(folded, layout, 1, "right", null), 2);
  assert.equal(next(folded, layout, 2, "left", null), 1);
  assert.equal(next(folded, layout, 3, "down", null), 3);
});

test("a zoom keeps the point under the pointer, a way ends where it should, a fit holds all", () => {
  const start = { x: 10, y: 20, scale: 0.5 };
  const near = zoomAt(start, 2, { x: 100, y: 50 }, 0.01);
  assert.equal(near.x + 100 / near.scale, start.x + 100 / start.scale);
  const rect = { x: 0, y: 0, w: 4000, h: 300 };
  const all = fitting(rect, 800, 500);
  assert.ok(all.x <= 0 && all.x + 800 / all.scale >= 4000 && all.y <= 0);
  for (const [share, wanted] of [[0, start], [1, all]] as const) {
    const at = between(start, all, share, 800, 500);
    assert.ok(Math.abs(at.x - wanted.x) < 1e-6 && Math.abs(at.scale - wanted.scale) < 1e-9);
  }
  assert.deepEqual(showing(start, { x: 300, y: 300, w: 10, h: 10 }, 800, 500), start);
});

test("names are text in a saved drawing, and no language lacks a text", () => {
  assert.equal(escape("<b>&\u0000\u001b"), "&lt;b&gt;&amp;\ufffd\ufffd");
  assert.deepEqual(Object.keys(LANGUAGES.JA).sort(), Object.keys(LANGUAGES.EN).sort());
  for (const [key, text] of Object.entries(LANGUAGES.EN)) {
    const holes = (of: string) => [...of.matchAll(/\{\d\}/g)].map(([hole]) => hole).sort();
    assert.deepEqual(holes(LANGUAGES.JA[key as keyof typeof LANGUAGES.JA]), holes(text), key);
  }
});
