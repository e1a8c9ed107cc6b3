import assert from "node:assert/strict";
import { test } from "node:test";

import { decodeRows, isFrame } from "../src/data/decode";
import { Look } from "../src/data/look";
import type { CellEvent, Frame, Schema, State } from "../src/data/messages";
import { integral, slice } from "../src/data/slice";
import { Store } from "../src/data/store";

const column = (name: string) => ({ name, label: name, unit: "W", panel: "power", provenance: "measured", note: "", help: "" });
const SCHEMA: Schema = { id: 1, interval: 0.1, columns: [column("watts"), column("other")] };
const STATE: State = { busy: true, cell: null, runs: 0, incidents: 0, hits: 0, misses: 0, scheduler: "", program: "", title: "" };

function frame(seq: number, times: number[], extra: Partial<Frame> = {}): [Frame, DataView] {
  const numbers = new Float64Array(times.flatMap((t) => [t, 2, NaN]));
  const now = times[times.length - 1] ?? 0;
  return [{ k: "f", v: 1, schema: 1, seq, n: times.length, dropped: 0, now, every: 0.1, events: [], state: STATE, ...extra },
    new DataView(numbers.buffer)];
}

test("a frame is decoded wherever its bytes begin", () => {
  const bytes = new Uint8Array(8 + 24 + 3);
  const at = 3;
  new Uint8Array(bytes.buffer).set(new Uint8Array(new Float64Array([1, 2, 3]).buffer), at);
  const [head] = frame(0, [1]);
  assert.deepEqual([...decodeRows(head, new DataView(bytes.buffer, at, 24), 3)], [1, 2, 3]);
});

test("a frame whose buffer does not fit is refused, and said", () => {
  const [head] = frame(4, [1, 2]);
  assert.throws(() => decodeRows(head, undefined, 3), /frame 4: 0 bytes for 2 rows/);
  assert.throws(() => decodeRows({ ...head, v: 9 }, undefined, 3), /version 9/);
  const store = new Store(SCHEMA);
  store.accept(head, new DataView(new ArrayBuffer(8)), 0);
  assert.match(store.fault, /8 bytes/);
  store.accept(...frame(0, [1]), 0);
  assert.equal(store.fault, "");
});

test("only our own messages are frames", () => {
  assert.deepEqual([{ k: "f" }, { k: "h" }, { k: "x" }, null, "f"].map(isFrame), [true, true, false, false, false]);
});

test("late rows are a gap, lost frames are dropped rows and no gap", () => {
  const store = new Store(SCHEMA);
  store.accept(...frame(0, [1, 1.1, 1.2]), 0);
  store.accept(...frame(3, [2.0, 2.1]), 0);
  assert.deepEqual(store.gaps, [{ t0: 1.2, t1: 2.0 }]);
  store.accept(...frame(9, [3.0]), 0);
  assert.equal(store.lost, 4);
  assert.equal(store.gaps.length, 1);
  assert.equal(store.ring.next, 10);
});

test("the history replaces everything and repairs what was lost", () => {
  const store = new Store(SCHEMA);
  store.accept(...frame(5, [1.5]), 0);
  store.accept(...frame(8, [1.8]), 0);
  store.accept(...frame(4, [1.4, 1.5, 1.6, 1.7, 1.8], { k: "h" }), 0);
  assert.equal(store.lost, 0);
  assert.equal(store.ring.length, 5);
  store.accept(...frame(8, [1.8, 1.9]), 0);
  assert.equal(store.ring.length, 6);
});

test("an event replaces the one with its id", () => {
  const store = new Store(SCHEMA);
  const cell: CellEvent = { k: "cell", id: 1, n: 3, src: "x", t0: 1, t1: null, ok: null };
  store.accept(...frame(0, [1], { events: [cell] }), 0);
  store.accept(...frame(1, [1.1], { events: [{ ...cell, t1: 1.1, ok: true }] }), 0);
  assert.deepEqual(store.cells.map((c) => c.t1), [1.1]);
});

test("the page's idea of the kernel's now is the one with the least delay", () => {
  const store = new Store(SCHEMA);
  assert.ok(Number.isNaN(store.now(0)));
  store.accept(...frame(0, [100]), 5_000);
  store.accept(...frame(1, [100.1]), 5_400);
  assert.equal(store.now(6_000), 101);
});

test("curves break at gaps and are thinned where there are more rows than pixels", () => {
  const store = new Store(SCHEMA);
  const times = Array.from({ length: 1000 }, (_, i) => i / 10 + (i >= 500 ? 5 : 0));
  store.accept(...frame(0, times), 0);
  const fine = slice(store.ring, [1, 2], 50, 60, 0.25, 0);
  assert.ok(fine.ys[0]?.slice(1, -1).includes(null));
  assert.ok(fine.ys[1]?.every((v) => v === null));
  assert.deepEqual(fine.tops, [2, 0]);
  const coarse = slice(store.ring, [1], 0, 105, 0.25, 1.05);
  assert.ok(coarse.x.length < 220);
  for (const part of [fine, coarse]) part.x.forEach((x, i) => assert.ok(i === 0 || x > (part.x[i - 1] as number)));
});

test("energy is summed over what was sampled only", () => {
  const store = new Store(SCHEMA);
  store.accept(...frame(0, [0, 0.1, 0.2, 5.0, 5.1]), 0);
  assert.ok(Math.abs(integral(store.ring, 1, 0, 10, 0.25) - 0.6) < 1e-9);
  assert.ok(Number.isNaN(integral(store.ring, 2, 0, 10, 0.25)));
});

test("a look reads the newest row, the one under the cursor, or nothing in a gap", () => {
  const store = new Store(SCHEMA);
  store.accept(...frame(0, [1, 1.1, 4]), 0);
  const look = (cursor: number | null) => new Look(store, 4, cursor, new Map());
  assert.equal(look(null).at("watts"), 2);
  assert.equal(look(1.04).at("watts"), 2);
  assert.ok(Number.isNaN(look(2.5).at("watts")));
  assert.ok(Number.isNaN(look(-9).at("watts")));
  assert.ok(Number.isNaN(look(null).latest("unknown")));
});
