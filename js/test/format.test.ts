import assert from "node:assert/strict";
import { test } from "node:test";

import { ago, between, cursorLabel, digits, fixed, nice, rough, show, span } from "../src/text/format";

test("three significant digits, narrow spaces and a real minus", () => {
  assert.deepEqual([0.123, 1.234, 12.34, 123.4, 12345].map(digits), ["0.12", "1.23", "12.3", "123", "12\u202f345"]);
  assert.equal(digits(9.999), "10.0");
  assert.equal(fixed(-2.5, 1), "\u22122.5");
  assert.equal(fixed(-0.001, 1), "0.0");
});

test("what is not zero does not read as zero", () => {
  assert.deepEqual([0.0062, 0.005, 0.0049, 0.004, 0.00031, -0.0009].map(digits), ["0.01", "0.01", "0.005", "0.004", "0.0003", "\u22120.0009"]);
  assert.equal(digits(0), "0.00");
  assert.equal(show(0.004, "{core}"), "0.004 cores");
});

test("units are chosen for people", () => {
  assert.equal(show(0.0185, "s"), "18.5 ms");
  assert.equal(show(2.31e9, "By"), "2.31 GB");
  assert.equal(show(0, "s"), "0.00 s");
  assert.equal(show(0.667, "1"), "66.7 %");
  assert.equal(show(3.41, "{core}"), "3.41 cores");
});

test("missing is said in words, never as zero", () => {
  assert.equal(show(NaN, "W"), "no sample");
  assert.equal(between(NaN, 3, "W"), "no sample");
});

test("estimates are ranges in one unit, two digits, marked", () => {
  assert.equal(between(6.89, 27.6, "W"), "≈ 6.9–28 W");
  assert.equal(between(260, 1020, "J"), "≈ 0.26–1.0 kJ");
  assert.equal(rough(246), "250");
});

test("axes end at round numbers", () => {
  assert.deepEqual([0, 0.3, 1, 1.1, 2.31, 4.2, 7, 9, 227].map(nice), [1, 0.30000000000000004, 1, 2, 3, 5, 8, 10, 300]);
});

test("times before now", () => {
  assert.equal(ago(0, 60), "now");
  assert.equal(ago(20, 60), "\u221220 s");
  assert.equal(ago(1800, 3600), "\u221230 min");
  assert.equal(cursorLabel(22.4, 60), "\u221222.4 s");
  assert.equal(cursorLabel(95, 600), "\u22121 min 35 s");
  assert.deepEqual([2.4, 42, 150, 5400].map(span), ["2.4 s", "42 s", "2.5 min", "1.5 h"]);
});
