import assert from "node:assert/strict";
import { test } from "node:test";

import { Level } from "../src/data/levels";
import { Ring } from "../src/data/ring";
import { slice } from "../src/data/slice";

function rows(count: number, value: (i: number) => number, step = 0.1): Float64Array {
  return Float64Array.from({ length: count * 2 }, (_, k) => (k % 2 ? value(k >> 1) : (k >> 1) * step));
}

test("a stretch keeps its least and greatest value, and NaN only where there is nothing else", () => {
  const level = new Level(1, 2, 100);
  level.push(Float64Array.of(0, NaN, 0.1, 3, 0.2, 1, 0.3, NaN, 1, NaN), 5);
  assert.equal(level.length, 2);
  assert.deepEqual([level.first(0), level.last(0), level.low(0, 1), level.high(0, 1)], [0, 0.3, 1, 3]);
  assert.deepEqual([level.low(1, 1), level.high(1, 1)], [NaN, NaN]);
});

test("rows that come one by one give the same stretches as all at once", () => {
  const all = rows(500, (i) => Math.sin(i));
  const [one, other] = [new Level(0.5, 2, 1000), new Level(0.5, 2, 1000)];
  one.push(all, 0.25);
  for (let i = 0; i < all.length; i += 2) other.push(all.subarray(i, i + 2), 0.25);
  const told = (level: Level) => Array.from({ length: level.length }, (_, i) => [level.first(i), level.last(i), level.low(i, 1), level.high(i, 1)]);
  assert.deepEqual(told(one), told(other));
});

test("a pause cuts a stretch in two, so that the curve breaks there", () => {
  const level = new Level(10, 2, 100);
  level.push(Float64Array.of(0, 1, 0.1, 1, 5, 1), 0.25);
  assert.deepEqual([level.first(0), level.last(0), level.first(1)], [0, 0.1, 5]);
});

test("the oldest stretches fall out, the memory stays as it is", () => {
  const level = new Level(0.1, 2, 300);
  level.push(rows(5000, (i) => i), 1);
  assert.equal(level.length, 300);
  assert.equal(level.high(299, 1), 4999);
  assert.ok(level.first(0) < level.first(299));
  assert.equal(level.lower(level.last(10)), 10);
});

test("a curve from stretches has the peaks that the rows have", () => {
  const all = rows(36_000, (i) => (i === 17_321 ? 100 : i === 29_000 ? -100 : Math.sin(i / 50)));
  const ring = new Ring(2, 36_000);
  ring.push(all);
  const level = new Level(4, 2, 1800);
  level.push(all, 0.25);
  const exact = slice(ring, [1], 0, 3600, 0.25, 6);
  const fast = slice(ring, [1], 0, 3600, 0.25, 6, [level]);
  assert.deepEqual(fast.tops, exact.tops);
  const least = (part: typeof exact) => Math.min(...(part.ys[0] ?? []).filter((value) => value !== null));
  assert.equal(least(fast), least(exact));
  assert.equal(least(fast), -100);
  assert.ok(fast.x.every((x, i) => i === 0 || x > (fast.x[i - 1] as number)));
});
