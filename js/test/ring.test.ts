import assert from "node:assert/strict";
import { test } from "node:test";

import { Ring } from "../src/data/ring";

const rows = (...times: number[]) => new Float64Array(times.flatMap((t) => [t, t * 10]));

test("rows come back oldest first, and the oldest fall out", () => {
  const ring = new Ring(2, 3);
  ring.push(rows(1, 2));
  ring.push(rows(3, 4, 5));
  assert.equal(ring.length, 3);
  assert.deepEqual([0, 1, 2].map((i) => ring.time(i)), [3, 4, 5]);
  assert.equal(ring.value(2, 1), 50);
  assert.equal(ring.next, 5);
});

test("it grows without losing rows", () => {
  const ring = new Ring(2, 10_000);
  ring.reset(7);
  for (let i = 0; i < 3000; i++) ring.push(rows(i));
  assert.equal(ring.length, 3000);
  assert.equal(ring.next, 3007);
  assert.deepEqual([ring.time(0), ring.time(1500), ring.time(2999)], [0, 1500, 2999]);
});

test("rows that never arrived are jumped over", () => {
  const ring = new Ring(2, 4);
  ring.push(rows(1, 2));
  ring.skip(9);
  ring.push(rows(3));
  assert.equal(ring.next, 10);
  assert.deepEqual([0, 1, 2].map((i) => ring.time(i)), [1, 2, 3]);
});

test("a time is found by bisection", () => {
  const ring = new Ring(2, 8);
  ring.push(rows(1, 2, 3, 5));
  assert.deepEqual([0, 2, 2.5, 5, 6].map((t) => ring.lower(t)), [0, 1, 2, 3, 4]);
});
