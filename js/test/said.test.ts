// Sentences of the kernel in another language.

import assert from "node:assert/strict";
import { test } from "node:test";

import { between, Sentences, TABLES, WORDS_JA } from "../src/text/said";

const japanese = new Sentences(TABLES, WORDS_JA, "。");

test("every hole of a sentence is filled once in its translation, and no sentence has two", () => {
  const known = new Set<string>();
  for (const table of TABLES) for (const [english, translation] of Object.entries(table)) {
    const holes = english.split("{}").length - 1;
    const used = [...translation.matchAll(/\{(\d)\}/g)].map((found) => Number(found[1])).sort();
    assert.deepEqual(used, Array.from({ length: holes }, (_, i) => i), english);
    assert.ok(!known.has(english), english);
    known.add(english);
  }
});

test("what varies is put where the translation wants it, and is translated itself", () => {
  assert.equal(japanese.say("Compute in fp16"), "fp16 で計算する");
  assert.equal(japanese.say("3 times, such as mul gain after conv_1."), "3 か所、たとえば conv_1 の後の mul gain。");
  assert.equal(japanese.say("not ranked: the baseline is estimated"), "順位なし: 基準は推定です");
  assert.equal(japanese.say("time"), "時間");
  assert.equal(japanese.say("time is fp32 [1, 3]."), "time は fp32 [1, 3] です。");
  assert.equal(japanese.say("5 layers with products would run there: a, b, c and 2 more."), "積を計算する 5 層がそこで実行されます: a, b, c ほか 2 件。");
});

test("sentences that were put together are translated one by one", () => {
  const plan = "portable: no other engine runs this program here; note: watts are rules of thumb";
  assert.equal(japanese.say(plan), "portable: このプログラムを実行できるエンジンはここではほかにありません。注: ワット数は経験則です");
  assert.equal(japanese.say("it computes in fp32; the Neural Engine runs fp16; nobody wrote this"), "fp32 で計算しますが、Neural Engine は fp16 です。nobody wrote this");
});

test("a split program's plan is told with all its numbers", () => {
  assert.equal(japanese.say("Core ML program, hybrid: 12 ops on pytorch (cuda:0)"), "Core ML プログラム、ハイブリッド: pytorch（cuda:0）で 12 演算");
  const why = "12 operations (a … b) on cuda:0: 0.2 ms (measured) there, 0.3 ms (estimated) with start and transfer, against 0.4 ms (estimated) on cpu; cpu cannot run c: it has no conv; 5 of 12 times come from recordings, the rest are rules of thumb";
  assert.equal(japanese.say(why), "12 演算（a … b） を cuda:0 で: 0.2 ms（実測）、開始と転送を含めて 0.3 ms（推定）（cpu では 0.4 ms（推定））。cpu では c を実行できません: conv がありません。12 個の時間のうち 5 個は記録から、残りは経験則です");
  const slower = "gelu_3 on portable (coreml:0): 0.9 ms (measured) there, 0.915 ms (estimated) with start and transfer, against 0.7 ms (estimated) on pytorch (cuda:0), which draws more power; tinygrad (opencl:0) and tinygrad (opencl:1) are left out: 3,072 results, the strategy sends 65,536 or more; pytorch (cuda:1) is left out: it needs 8.19 kB, and may take 7.37 kB";
  assert.equal(japanese.say(slower), "gelu_3 を portable (coreml:0) で: 0.9 ms（実測）、開始と転送を含めて 0.915 ms（推定）（pytorch (cuda:0) では 0.7 ms（推定）、ただし消費電力が大きい）。tinygrad (opencl:0) と tinygrad (opencl:1) は使いません: 結果は 3,072 個、戦略が送るのは 65,536 個以上です。pytorch (cuda:1) は使いません: 8.19 kB が必要ですが、使えるのは 7.37 kB までです");
});

test("what no table knows stays as it is, and short sentences do not tear it apart", () => {
  for (const text of ["", "conv_1", "load this and look at that", "x".repeat(5_000), "a value is what it is"]) assert.equal(japanese.say(text), text);
});

test("holes are as short as can be", () => {
  assert.deepEqual(between("a of b of c", ["", " of ", ""]), ["a", "b of c"]);
  assert.equal(between("ab", ["a", "ab"]), null);
  assert.equal(between("a", ["a", "b", ""]), null);
});
