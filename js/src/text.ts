// Every text of the views, in the languages we have. The host's language decides; a missing text stays English.

const EN = {
  live: "Live", timeline: "Timeline", operations: "Operations", compare: "Compare", suggestions: "Suggestions", record: "Record",
  views: "Views", strategy: "Strategy",
  nothing: "Nothing was recorded yet. Run cl.profile(model, inputs), or press Record.",
  search: "Find an op", searchKey: "Find an op ( / )", found: "{0} of {1} ops", leftOut: "{0} more are left out",
  byOp: "each op", byType: "op type", byScope: "scope", group: "Group by",
  op: "op", type: "type", share: "share of time", time: "time", count: "count", bytes: "bytes", weights: "weights", memory: "memory", device: "device",
  mark: "how", ops: "{0} ops", unavailable: "unavailable", run: "{0} per inference, median of {1} runs; ops by {2} traced runs",
  zoomIn: "Zoom in", zoomOut: "Zoom out", fit: "Fit", track: "Track of the last traced run. Arrows choose an op, plus and minus zoom, 0 fits.",
  transfers: "Transfers", between: "between ops", shown: "{0} to {1} shown, traced run of {2}", choose: "Click an op, or choose one with the arrow keys.",
  where: "created at", noWhere: "its line is not known: the model came from a file", shape: "result", moved: "bytes, estimated", intensity: "intensity",
  placed: "on {0}", fused: "with", ran: "ran on", gap: "gap",
  start: "Start recording", stop: "Stop recording", save: "Save", replaySaved: "Replay the last recording", replayFile: "Replay a file…", waits: "waits for the kernel",
  taping: "recording for {0}", saved: "saved as {0}", exporting: "Export the view seen last", speed: "Speed", again: "From the beginning", leave: "Close the replay",
  replaying: "replay, {0}×", ended: "replay, at its end", badFile: "this file is no recording of the dashboard: {0}", replay: "Replay",
  needsKernel: "Starting, stopping and saving need the kernel; replay and export do not.", hold: "Hold", go: "Play",
  try: "Try it", tryAgain: "Try again", accept: "Accept", undo: "Undo", halt: "Stop", evidence: "seen here", expected: "expected", measured: "measured",
  confidence: "confidence", risk: "risk", notTried: "not yet tried", background: "in the background, about 30 s at most", ofTime: "{0}× the time",
  less: "left of 1 is less time", size: "size", before: "before", after: "after", author: "for you to do",
  new: "new", waiting: "waits", running: "running", awaits: "awaits you", accepted: "accepted", rejected: "not accepted", failed: "failed",
  stopped: "stopped", advice: "advice", noCards: "No suggestion: no rule has anything to say about this model.", noCardsYet: "Suggestions come with the first recording.",
  acceptedHow: "cl.Dashboard().model is the changed model now", gainOf: "saves {0}",
  baseline: "baseline", recording: "recording", median: "median time", interval: "95 % interval", ratio: "÷ baseline", verdict: "verdict", faster: "faster", slower: "slower",
  same: "not told apart", needTwo: "Record twice to compare: before and after a change, or on two devices.", opsRatio: "ops, {0} against {1}",
  apart: "A verdict is given only where the two 95 % intervals do not touch; cl.compare measures in pairs and sees smaller differences.",
  from: "from {0}", only: "only there", plan: "plan",
} as const;

export type Text = keyof typeof EN;

const JA: Partial<Record<Text, string>> = {
  live: "ライブ", timeline: "タイムライン", operations: "演算", compare: "比較", suggestions: "提案", record: "記録",
  views: "表示", strategy: "方針", nothing: "まだ記録がありません。cl.profile(model, inputs) を実行するか、記録を開始してください。",
  search: "演算を検索", searchKey: "演算を検索 ( / )", found: "{1} 件中 {0} 件", leftOut: "ほか {0} 件は省略",
  byOp: "演算ごと", byType: "種類", byScope: "スコープ", group: "グループ", op: "演算", type: "種類", share: "時間の割合", time: "時間", count: "回数",
  bytes: "バイト", weights: "重み", memory: "メモリ", device: "デバイス", mark: "根拠", ops: "{0} 演算", unavailable: "利用不可",
  run: "1 回 {0}（{1} 回の中央値）、演算は {2} 回のトレース", zoomIn: "拡大", zoomOut: "縮小", fit: "全体",
  track: "最後にトレースした実行。矢印キーで演算を選択、+ と − で拡大縮小、0 で全体。", transfers: "転送", between: "演算の間",
  shown: "{0} から {1} を表示、全体 {2}", choose: "演算をクリックするか、矢印キーで選んでください。", where: "作成箇所", noWhere: "行は不明です（ファイルから読み込んだモデル）",
  shape: "結果", moved: "バイト（推定）", intensity: "演算強度", placed: "{0} では", fused: "融合", ran: "実行先", gap: "空き",
  start: "記録を開始", stop: "記録を停止", save: "保存", replaySaved: "最後の記録を再生", replayFile: "ファイルを再生…", waits: "カーネル待ち", taping: "記録中 {0}",
  saved: "{0} に保存しました", exporting: "直前の表示を書き出す", speed: "速度", again: "最初から", leave: "再生を閉じる", replaying: "再生 {0}×", ended: "再生終了",
  badFile: "ダッシュボードの記録ではありません: {0}", replay: "再生", needsKernel: "開始・停止・保存にはカーネルが必要です。再生と書き出しには不要です。", hold: "一時停止", go: "再生",
  try: "試す", tryAgain: "もう一度試す", accept: "採用", undo: "元に戻す", halt: "中止", evidence: "観察", expected: "予想", measured: "実測", confidence: "確度", risk: "リスク",
  notTried: "未試行", background: "バックグラウンドで最大約 30 秒", ofTime: "時間 {0}×", less: "1 より左は短い", size: "サイズ", before: "前", after: "後", author: "あなたの作業",
  new: "新規", waiting: "待機中", running: "実行中", awaits: "判断待ち", accepted: "採用済み", rejected: "不採用", failed: "失敗", stopped: "中止", advice: "助言",
  noCards: "提案はありません。", noCardsYet: "最初の記録のあとに提案が表示されます。", acceptedHow: "cl.Dashboard().model が変更後のモデルです", gainOf: "{0} の節約",
  baseline: "基準", recording: "記録", median: "中央値", interval: "95 % 区間", ratio: "÷ 基準", verdict: "判定", faster: "速い", slower: "遅い", same: "差は不明",
  needTwo: "比較には 2 つの記録が必要です。", opsRatio: "演算: {0} と {1}", apart: "95 % 区間が重ならない場合だけ判定します。小さな差は cl.compare で測れます。",
  from: "開始 {0}", only: "片方のみ", plan: "計画",
};

const TABLES: Record<string, Partial<Record<Text, string>>> = { en: EN, ja: JA };

/** The language of the page's host, as far as we have it. */
export function language(): string {
  const wanted = document.documentElement.lang || navigator.language || "en";
  const short = wanted.slice(0, 2).toLowerCase();
  // JupyterLab writes lang="en" whatever the reader's language is: the browser's own comes before that.
  const own = (navigator.language || "en").slice(0, 2).toLowerCase();
  return short !== "en" && short in TABLES ? short : own in TABLES ? own : "en";
}

/** A text in the host's language, with `{0}`, `{1}` filled in. */
export function t(key: Text, ...values: (string | number)[]): string {
  const text = TABLES[language()]?.[key] ?? EN[key];
  return text.replace(/\{(\d)\}/g, (_, place: string) => String(values[Number(place)] ?? ""));
}

/** The tables, for a test that no language lacks a text. */
export const LANGUAGES = { EN, JA };
