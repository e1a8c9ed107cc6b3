import assert from "node:assert/strict";
import { test } from "node:test";

import { actionOf } from "../src/page/keys";
import type { Column, Schema } from "../src/data/messages";
import { axisTop, type PlotSpec, scaling, strips } from "../src/live/panels";
import { ticks } from "../src/live/ticks";

const column = (name: string, panel: string, unit: string, provenance = "measured"): Column =>
  ({ name, label: name, unit, panel, provenance, note: "why", help: "" });

function power(provenance: string): ReturnType<typeof strips>[number] {
  const schema: Schema = { id: 1, interval: 0.1, columns: [
    column("coreml_lab.power.cpu.low", "power", "W", "estimated"), column("coreml_lab.power.cpu.high", "power", "W", "estimated"),
    column("hw.power.package", "power", "W", provenance), column("hw.power.gpu", "power", "W"),
  ] };
  return strips(schema).find((strip) => strip.id === "power") as ReturnType<typeof strips>[number];
}

test("an estimate is a band and never a line; a measured package is a line", () => {
  const plot = power("measured").plots[0] as PlotSpec;
  assert.deepEqual(plot.band, ["coreml_lab.power.cpu.low", "coreml_lab.power.cpu.high"]);
  assert.deepEqual(plot.lines.map((line) => line.metric), ["hw.power.package", "hw.power.gpu"]);
  assert.equal(plot.missing, undefined);
});

test("what cannot be had is said in words", () => {
  const plot = power("unavailable").plots[0] as PlotSpec;
  assert.equal(plot.missing, "CPU package: unavailable, why");
  assert.ok(!plot.lines.some((line) => line.metric === "hw.power.package"));
});

test("a metric that no strip knows gets a line and a read-out of its own", () => {
  assert.ok(power("measured").readings.some((reading) => reading.label === "hw.power.gpu"));
});

test("the axis of memory follows the kernel, not the machine", () => {
  const plot = { unit: "By", least: 1e6, lines: [
    { metric: "process.memory.usage" }, { metric: "system.memory.limit" },
  ] } as unknown as PlotSpec;
  assert.deepEqual([...scaling(plot)], ["process.memory.usage"]);
  assert.equal(axisTop(plot, 77e6), 100e6);
  assert.equal(axisTop(plot, 0), 1e6);
});

test("the axis of few cores always shows all of them", () => {
  assert.equal(axisTop({ unit: "{core}", least: 8, fixed: true } as PlotSpec, 0.2), 8);
});

test("ticks lie at round distances from now", () => {
  assert.deepEqual(ticks(100, 60, true), [40, 60, 80, 100]);
  assert.equal(ticks(0, 3600, false).length, 5);
});

test("a focused button keeps its Space", () => {
  assert.equal(actionOf(" ", true), null);
  assert.ok(actionOf(" ", false));
  assert.equal(actionOf("x", false), null);
});

test("GPUs have a strip where the sampler reads any, in their own colour, each with its own dashes", () => {
  const none = strips({ id: 1, interval: 0.1, columns: [] }, "not an Apple chip").find((strip) => strip.id === "accelerators");
  assert.equal(none?.plots[0]?.missing, "Neural Engine: not an Apple chip");
  assert.deepEqual(none?.readings.map((each) => each.provenance), ["unavailable", "unavailable"]);
  const schema: Schema = { id: 1, interval: 0.1, columns: [
    column("hw.gpu.utilization/0", "device", "1"), column("hw.gpu.utilization/1", "device", "1"),
    column("hw.gpu.memory.usage/0", "device", "By"), column("hw.temperature.gpu/0", "device", "Cel"),
    column("hw.gpu.utilization/2", "device", "1", "unavailable"), column("coreml_lab.memory.weights", "device", "By"),
  ] };
  const strip = strips(schema).find((each) => each.id === "accelerators");
  assert.deepEqual(strip?.plots.map((plot) => plot.lines.length), [2, 1]);
  assert.ok(strip?.plots.every((plot) => plot.lines.every((line) => line.colour === "gpu")));
  assert.notDeepEqual(strip?.plots[0]?.lines[0]?.dash, strip?.plots[0]?.lines[1]?.dash);
  assert.equal(strip?.readings.length, 5);
  assert.ok(strips(schema).find((each) => each.id === "memory")?.readings.some((each) => each.label === "coreml_lab.memory.weights"));
});

test("a Neural Engine that draws power is active, and its power has a curve", () => {
  const schema: Schema = { id: 1, interval: 0.1, columns: [column("hw.power.ane", "power", "W", "estimated")] };
  const strip = strips(schema).find((each) => each.id === "accelerators");
  assert.deepEqual(strip?.plots.map((plot) => [plot.lines[0]?.colour, plot.missing]), [["ane", undefined]]);
  const words = [0.4, 0, NaN].map((value) => strip?.headline({ at: () => value } as never)[1]);
  assert.deepEqual(words, ["active", "resting", "no sample"]);
});

test("heat is a word, and battery and heat are read where they are known", () => {
  const schema: Schema = { id: 1, interval: 0.1, columns: [
    column("coreml_lab.thermal.state", "conditions", "{state}"), column("hw.battery.charge", "conditions", "1", "unavailable"),
  ] };
  const readings = strips(schema).find((each) => each.id === "power")?.readings.filter((each) => /thermal|battery/.test(String(each.label)));
  assert.equal(readings?.length, 1);
  const look = (value: number) => ({ at: () => value }) as never;
  assert.deepEqual([0, 2, NaN].map((value) => readings?.[0]?.value(look(value))), ["nominal", "serious", "no sample"]);
});
