// Every text of the Inspector, in the languages we have; a missing text stays English.

import { language } from "../text/text";

const EN = {
  inspector: "Inspector", graph: "Graph of {0}", colour: "Colour by", placing: "placement", ran: "device", time: "time", bits: "bits", family: "kind", changes: "changes",
  search: "Find an op ( / )", found: "{0} of {1}", none: "nothing found", zoomIn: "Zoom in", zoomOut: "Zoom out", fit: "Fit",
  expand: "Open all", collapse: "Close all", list: "List", map: "Overview", save: "Save as", ops: "{0} ops", op: "1 op",
  keys: "Arrow keys walk along the edges, Enter shows the details, Space opens or closes a group, plus and minus zoom, 0 fits all, / searches, C changes the colours, Escape lets go.",
  keysTwo: "N goes to the next difference, X to the other model.",
  keysShort: "↑ ↓ ← → walk · Enter details · Space open/close · + − 0 zoom · / find", wheel: "Ctrl + wheel zooms; drag moves",
  choose: "Choose an operation: click it, find it, or walk there with the arrow keys.", program: "Program", mostTime: "most time", inputs: "inputs", outputs: "outputs", kinds: "operations", laying: "laying out {0} of {1}", rough: "a rough layout: this host allows no workers ({0})",
  block: "part {0} of {1}", input: "input", output: "output", state: "state", folded: "{0} ops that only unpack weights are drawn with the weights they unpack",
  device: "device", where: "written at", noWhere: "the line is not known", result: "result", results: "result {0}", bytes: "bytes", unknown: "unknown", dynamic: "known only when it runs",
  params: "parameters", weights: "weights", shared: "shared by {0}", stored: "{0} bits, {1}", asIs: "as it is", reads: "reads", readers: "read by", more: "{0} more", nothing: "nothing",
  onChip: "on {0}", planned: "by Core ML's plan", estimate: "estimated", allowed: "could run on {0}", before: "done before it runs", helps: "what helps", sure: "confidence {0}", source: "source", risk: "risk", reason: "why not the Neural Engine", free: "nothing keeps it from the Neural Engine",
  measured: "median of {0} traced runs", ranOn: "ran on", within: "ran within {0}", carried: "↳ within another op", notTimed: "no time of its own was recorded", least: "at least", cpu: "CPU", gpu: "GPU", ne: "Neural Engine", foldedOp: "before it runs", several: "several devices",
  noWeights: "no weights", lessBits: "{0} bits", mixed: "mixed", same: "same", changed: "changed", retyped: "precision only", added: "added", removed: "removed", moved: "renamed",
  differences: "{0} changed, {4} in precision only, {1} added, {2} removed, {3} the same", next: "Next difference", other: "in {0}", notThere: "not in {0}",
  changedType: "shape", changedPrecision: "precision", changedOp: "operation", changedParams: "parameters", changedWeights: "weights' shape", changedBits: "weights' bits", onlyKnown: "not known: {0}",
  close: "Close", total: "all together", group: "group", inside: "inside", open: "Open", shut: "Close group", showMore: "show {0} more", legend: "Colours", outline: "Operations of {0}", details: "Details",
  conv: "convolution", matrix: "matrix product", attention: "attention", recurrent: "recurrent", norm: "normalization", activation: "activation", pool: "pooling", reduce: "reduction",
  elementwise: "elementwise", cast: "casts, quantization", resize: "resizing", layout: "layout", control: "control flow", port: "input, output", otherKind: "other", between: "between", then: "then", otherwise: "otherwise", condition: "condition", body: "body",
  picked: "{0}, {1}, {2}", opened: "{0}: {1} ops", oneModel: "{0}, {1}", exported: "saved {0}", failed: "the picture could not be drawn: {0}",
} as const;

export type Text = keyof typeof EN;

const JA: Record<Text, string> = {
  inspector: "インスペクタ", graph: "{0} のグラフ", colour: "色分け", placing: "配置", ran: "デバイス", time: "時間", bits: "ビット", family: "種類", changes: "変更",
  search: "演算を検索 ( / )", found: "{1} 件中 {0}", none: "見つかりません", zoomIn: "拡大", zoomOut: "縮小", fit: "全体",
  expand: "すべて開く", collapse: "すべて閉じる", list: "一覧", map: "全体図", save: "保存", ops: "{0} 演算", op: "1 演算",
  keys: "矢印キーで辺に沿って移動、Enter で詳細、スペースでグループを開閉、+ と − で拡大縮小、0 で全体、/ で検索、C で色分け、Esc で選択解除。",
  keysTwo: "N で次の違い、X でもう一方のモデル。", keysShort: "↑ ↓ ← → 移動 · Enter 詳細 · スペース 開閉 · + − 0 拡大縮小 · / 検索", wheel: "Ctrl + ホイールで拡大縮小、ドラッグで移動",
  choose: "演算をクリックするか、検索するか、矢印キーで選んでください。", program: "プログラム", mostTime: "時間の長い演算", inputs: "入力", outputs: "出力", kinds: "演算", laying: "配置中 {0} / {1}", rough: "簡易配置です: このホストではワーカーが使えません（{0}）",
  block: "{1} 個中 {0}", input: "入力", output: "出力", state: "状態", folded: "重みを展開するだけの {0} 演算は、その重みとして示します",
  device: "デバイス", where: "作成箇所", noWhere: "行は不明です", result: "結果", results: "結果 {0}", bytes: "バイト", unknown: "不明", dynamic: "実行時に決まる",
  params: "パラメータ", weights: "重み", shared: "{0} 演算で共有", stored: "{0} ビット、{1}", asIs: "そのまま", reads: "読む値", readers: "読む演算", more: "ほか {0}", nothing: "なし",
  onChip: "{0} では", planned: "Core ML の計画", estimate: "推定", allowed: "実行可能: {0}", before: "実行前に完了", helps: "対策", sure: "確度 {0}", source: "出典", risk: "リスク", reason: "Neural Engine でない理由", free: "Neural Engine を妨げるものはありません",
  measured: "{0} 回のトレースの中央値", ranOn: "実行先", within: "{0} の中で実行", carried: "↳ 他の演算の中", notTimed: "この演算の時間は記録されていません", least: "最小", cpu: "CPU", gpu: "GPU", ne: "Neural Engine", foldedOp: "実行前", several: "複数のデバイス",
  noWeights: "重みなし", lessBits: "{0} ビット", mixed: "混在", same: "同じ", changed: "変更", retyped: "精度のみ", added: "追加", removed: "削除", moved: "改名",
  differences: "変更 {0}、精度のみ {4}、追加 {1}、削除 {2}、同じ {3}", next: "次の違い", other: "{0} では", notThere: "{0} にはありません",
  changedType: "形", changedPrecision: "精度", changedOp: "演算", changedParams: "パラメータ", changedWeights: "重みの形", changedBits: "重みのビット", onlyKnown: "不明: {0}",
  close: "閉じる", total: "合計", group: "グループ", inside: "内容", open: "開く", shut: "グループを閉じる", showMore: "あと {0} 件を表示", legend: "色の凡例", outline: "{0} の演算", details: "詳細",
  conv: "畳み込み", matrix: "行列積", attention: "アテンション", recurrent: "再帰", norm: "正規化", activation: "活性化", pool: "プーリング", reduce: "集約",
  elementwise: "要素ごと", cast: "変換・量子化", resize: "リサイズ", layout: "レイアウト", control: "制御フロー", port: "入出力", otherKind: "その他", between: "間", then: "真の場合", otherwise: "偽の場合", condition: "条件", body: "本体",
  picked: "{0}、{1}、{2}", opened: "{0}: {1} 演算", oneModel: "{0}、{1}", exported: "{0} を保存しました", failed: "図を描けませんでした: {0}",
};

/** A text in the host's language, with `{0}`, `{1}` filled in. */
export function t(key: Text, ...values: (string | number)[]): string {
  const text = (language() === "ja" ? JA[key] : undefined) ?? EN[key];
  return text.replace(/\{(\d)\}/g, (_, place: string) => String(values[Number(place)] ?? ""));
}

export function opsText(count: number): string {
  return count === 1 ? t("op") : t("ops", count);
}

/** The tables, for a test that no language lacks a text. */
export const LANGUAGES: { EN: Record<Text, string>; JA: Record<Text, string> } = { EN, JA };
