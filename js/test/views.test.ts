import assert from "node:assert/strict";
import { test } from "node:test";

import { pairs, verdict } from "../src/views/comparing";
import { Desk, type Told } from "../src/data/desk";
import { fromJson, toCsv, toJson, toTrace } from "../src/files/files";
import { lines, scope, sorted } from "../src/views/grouping";
import type { Amount, OpRow, Recorded } from "../src/data/messages";
import { Store } from "../src/data/store";
import { labelled } from "../src/views/pairs";
import { LANGUAGES } from "../src/text/text";
import { axis, moved, showing, under, zoomed } from "../src/views/zoom";

function op(node: string, extra: Partial<OpRow> = {}): OpRow {
  return {
    node, op: "conv", engine: "portable", device: "coreml:0", time: 1e-3, share: 0.5, count: 1, bytes: 100, weights: 10, memory: null, flops: null,
    moved: null, provenance: "measured", where: "", shape: "1 × 2", dtype: "fp32", fused: [], placed: "", why: "", ...extra,
  };
}

function amount(value: number, low: number | null = null, high: number | null = null): Amount {
  return { value, unit: "s", provenance: "measured", low, high, note: "" };
}

function told(ops: OpRow[], id = 1): Recorded {
  return {
    k: "recorded", v: 1, id, name: "net", title: "CPU", package: "fp32", chip: "M4", runs: 40, traced: 2, n: ops.length, length: 1, left_out: 0, tracks: [],
    p50: amount(1), p95: amount(1), ops, code: [], roofs: [],
  };
}

test("operations group by type, but devices and provenances are not added up", () => {
  const ops = [op("a"), op("b"), op("c", { device: "cuda:0" }), op("d", { provenance: "apportioned" }), op("e", { op: "relu", share: null })];
  const found = lines(ops, "byType", "");
  assert.deepEqual(found.map((line) => line.members), [[0, 1], [2], [3], [4]]);
  assert.equal(found[0]?.time, 2e-3);
  assert.equal(found[3]?.share, null);
});

test("the memory of a group is the most, not the sum, and unknown is not zero", () => {
  assert.equal(lines([op("a", { memory: 5 }), op("b", { memory: 7 })], "byType", "")[0]?.memory, 7);
  assert.equal(lines([op("a"), op("b")], "byType", "")[0]?.memory, null);
});

test("unknown values come last whichever way a column is sorted", () => {
  const rows = lines([op("a", { memory: 2 }), op("b"), op("c", { memory: 1 })], "byOp", "");
  assert.deepEqual(sorted(rows, "memory", true).map((line) => line.name), ["a", "c", "b"]);
  assert.deepEqual(sorted(rows, "memory", false).map((line) => line.name), ["c", "a", "b"]);
});

test("a search finds words in any order in name, type, device and line", () => {
  const ops = [op("stem.conv", { where: "net.py, line 3" }), op("head.fc", { op: "linear" })];
  assert.deepEqual(lines(ops, "byOp", "LINE stem").map((line) => line.name), ["stem.conv"]);
  assert.equal(lines(ops, "byOp", "nowhere").length, 0);
  assert.equal(scope("layer1.0.conv_3"), "layer1.0");
  assert.equal(scope("conv_12"), "conv");
});

test("zooming keeps the moment under the pointer and stays inside the run", () => {
  const near = zoomed({ t0: 0, t1: 10 }, 2, 4, 10);
  assert.deepEqual(near, { t0: 2, t1: 7 });
  assert.deepEqual(zoomed(near, 0.1, 4, 10), { t0: 0, t1: 10 });
  assert.deepEqual(moved(near, 100, 10), { t0: 5, t1: 10 });
  assert.deepEqual(showing(near, 8, 9, 10), { t0: 4, t1: 9 });
});

test("a click finds the block below it, or the nearest within reach, on its own lane", () => {
  const spans = Float64Array.of(0, 0, 1, 1, 2, 1, 2, 2.5, 1);
  assert.equal(under(spans, () => true, 0.5, 0), 0);
  assert.equal(under(spans, () => true, 1.8, 0.3), 1);
  assert.equal(under(spans, () => true, 1.5, 0.3), -1);
  assert.equal(under(spans, (place) => place === 2, 2.2, 0.5), 2);
});

test("an axis has round moments only", () => {
  assert.deepEqual(axis({ t0: 0, t1: 1 }, 5), [0, 0.2, 0.4, 0.6000000000000001, 0.8, 1]);
  assert.deepEqual(axis({ t0: 3, t1: 3 }, 5), []);
});

test("a verdict needs two intervals that do not touch", () => {
  assert.equal(verdict(amount(1, 0.9, 1.1), amount(2, 1.9, 2.1)), "faster");
  assert.equal(verdict(amount(2, 1.9, 2.1), amount(1, 0.9, 1.1)), "slower");
  assert.equal(verdict(amount(1, 0.9, 1.95), amount(2, 1.9, 2.1)), "same");
  assert.equal(verdict(amount(1), amount(2, 1.9, 2.1)), "same");
});

test("operations of two recordings are paired by name, the largest change first", () => {
  const one = { ...told([op("a", { time: 2 }), op("b", { time: 1 })]), spans: new Float64Array(0) };
  const base = { ...told([op("a", { time: 2 }), op("b", { time: 3 }), op("c", { time: 1 })]), spans: new Float64Array(0) };
  assert.deepEqual(pairs(one, base).map(({ node, before, after }) => [node, before, after]), [["b", 3, 1], ["c", 1, null], ["a", 2, 2]]);
});

test("the desk keeps the newest recordings, each once, and forgets a wish when it is answered", () => {
  const sent: unknown[] = [];
  const desk = new Desk((wish) => sent.push(wish));
  const buffer = new DataView(Float64Array.of(0, 0, 1).buffer);
  for (let id = 1; id <= 10; id++) desk.accept(told([op("a")], id), buffer);
  desk.accept(told([op("a")], 10), buffer);
  assert.deepEqual(desk.recordings.map((each) => each.id), [3, 4, 5, 6, 7, 8, 9, 10]);
  desk.ask("record");
  assert.equal(desk.waiting.has("recording"), true);
  desk.accept({ k: "recording", v: 1, on: true, since: 0, saved: "", error: "" }, undefined);
  assert.equal(desk.waiting.size, 0);
  assert.deepEqual(sent, [{ k: "do", v: 1, what: "record", arg: "" }]);
  assert.equal(desk.accept({ k: "recorded", v: 99 }, buffer), false);
  assert.equal(desk.accept(null, buffer), false);
});

function store(): Store {
  const column = { name: "=odd,\"name\"", label: "x", unit: "W", panel: "cpu", provenance: "measured", note: "", help: "" };
  const made = new Store({ id: 1, interval: 0.1, columns: [column] });
  const state = { busy: false, cell: null, runs: 0, incidents: 0, hits: 0, misses: 0, program: "", scheduler: "", title: "" };
  made.accept({ k: "h", v: 1, schema: 1, seq: 0, n: 2, dropped: 0, now: 2, every: 0.1, events: [], state }, new DataView(Float64Array.of(1, 5, 2, NaN).buffer), 0);
  return made;
}

test("a table leaves missing values empty and its names are never formulas", () => {
  assert.deepEqual(toCsv(store()).split("\r\n"), ["time [s],\"'=odd,\"\"name\"\" [W] measured\"", "1,5", "2,", ""]);
});

test("what is exported is read again as it was", () => {
  const recorded: Told = { ...told([op("a")]), spans: Float64Array.of(0, 0, 1) };
  const tape = fromJson(toJson(store(), "net", recorded));
  assert.deepEqual([...tape.rows], [1, 5, 2, NaN]);
  assert.deepEqual([...(tape.recorded?.spans ?? [])], [0, 0, 1]);
  assert.equal(tape.name, "net");
});

test("files of strangers are refused with a reason", () => {
  const good = JSON.parse(toJson(store(), "net", null)) as Record<string, unknown>;
  for (const odd of [{}, { ...good, version: 2 }, { ...good, schema: {} }, { ...good, rows: [[1]] }, { ...good, rows: [[2, 1], [1, 1]] }, { ...good, rows: [["x", 1]] }]) {
    assert.throws(() => fromJson(JSON.stringify(odd)));
  }
  assert.equal(fromJson(JSON.stringify({ ...good, recorded: { k: "recorded", ops: [{}], spans: [] } })).recorded, null);
});

test("a trace has a row per device and times in microseconds", () => {
  const recorded: Told = { ...told([op("a"), op("b", { device: "cuda:0" })]), spans: Float64Array.of(0, 0, 1e-3, 1, 1e-3, 2e-3) };
  const events = (JSON.parse(toTrace(recorded)) as { traceEvents: { ph: string; tid: number; ts: number; dur: number }[] }).traceEvents;
  assert.deepEqual(events.filter((event) => event.ph === "X").map(({ tid, ts, dur }) => [tid, ts, dur]), [[0, 0, 1000], [1, 1000, 2000]]);
});

test("Japanese has every text of the views, with the same places to fill in", () => {
  const places = (text: string) => [...text.matchAll(/\{\d\}/g)].map(String).sort();
  for (const [key, english] of Object.entries(LANGUAGES.EN)) {
    const japanese = LANGUAGES.JA[key as keyof typeof LANGUAGES.EN];
    assert.ok(japanese, key);
    assert.deepEqual(places(japanese), places(english), key);
  }
});

test("an axis of ratios has labels that do not touch, and 1 among them", () => {
  const steps = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100];
  const x = (value: number) => 130 + 26 * Math.log10(value) * 2;
  const kept = labelled(steps, x);
  assert.ok(kept.includes(1) && kept.length >= 3);
  for (let i = 1; i < kept.length; i++) assert.ok(x(kept[i] as number) - x(kept[i - 1] as number) >= 42);
  assert.deepEqual(labelled([0.5, 1, 2], (value) => 130 + 100 * Math.log2(value)), [0.5, 1, 2]);
  assert.deepEqual(labelled([1], () => 0), [1]);
});
