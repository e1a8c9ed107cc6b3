import assert from "node:assert/strict";
import { test } from "node:test";

import { within } from "../src/live/scene";

test("a window holds what touches it, and what has not ended", () => {
  const cell = (t0: number, t1: number | null) => ({ t0, t1 }) as never;
  const gap = (t0: number, t1: number) => ({ t0, t1 }) as never;
  const store = { cells: [cell(0, 5), cell(85, 92), cell(95, null)], gaps: [gap(1, 2), gap(88, 91)], incidents: [] };
  const scene = within(store as never, 100, 10, false);
  assert.deepEqual([scene.t0, scene.t1], [90, 100]);
  assert.deepEqual(scene.cells.map((c) => c.t0), [85, 95]);
  assert.deepEqual(scene.gaps.map((g) => g.t0), [88]);
  assert.deepEqual(scene.ticks, [90, 92, 94, 96, 98, 100]);
});
