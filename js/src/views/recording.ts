// The view Record: start, stop and save in the kernel; replay and export in the page alone.

import type { Desk } from "../data/desk";
import { h, mark, say } from "../page/dom";
import { type Tape, toCsv, toJson, toTrace } from "../files/files";
import { span } from "../text/format";
import { button, chooser, choice } from "../page/parts";
import { download, toHtml, toPng, toSvg } from "../files/picture";
import { Player } from "../files/player";
import { openTape } from "../files/saved";
import type { Store } from "../data/store";
import type { Panel } from "../page/tabs";
import { said } from "../text/said";
import { t } from "../text/text";

export interface Shower {
  /** Show a player's store in a view of its own, in `host`; ends with the signal. */
  (player: Player, host: HTMLElement, signal: AbortSignal): void;
}

/** What is exported: the store and the picture of the view that is shown. */
export interface Shown {
  store: Store;
  name(): string;
  /** Make something of the view that was seen last. */
  picture<T>(make: (root: HTMLElement) => T): T;
}

export class Recording implements Panel {
  readonly id = "record";
  readonly element: HTMLElement;
  readonly exports: HTMLElement;
  private readonly tape = button("", () => this.toggle(), "cml-btn cml-prime");
  private readonly save = button(t("save"), () => { this.refuse(""); this.desk.ask("save"); });
  private readonly again = button(t("replaySaved"), () => { this.refuse(""); this.asked = this.desk.last; this.desk.ask("open"); });
  private readonly said = h("p", { class: "cml-s cml-note", "aria-live": "polite" });
  private readonly stage = h("div", { class: "cml-stage" });
  private ending: AbortController | null = null;
  private played: unknown = null;
  /** What was refused last, in words: it stands, whatever else comes, until the reader does the next thing here. */
  private problem = "";
  /** The recording that was asked for here; any other that comes has no operations to show. */
  private asked: Tape["recorded"] = null;

  constructor(private readonly desk: Desk, private readonly shown: Shown, private readonly show: Shower) {
    const open = chooser(t("replayFile"), async (content) => this.replay(await openTape(content)), (problem) => this.refuse(problem));
    this.exports = this.exporting();
    this.element = h("div", { class: "cml-view" },
      h("div", { class: "cml-tools" }, this.tape, this.save, this.again, ...open), this.said,
      h("p", { class: "cml-s cml-m cml-note" }, t("needsKernel")), this.exports, this.stage);
  }

  update(): void {
    const taping = this.desk.taping;
    const held = this.desk.waiting.has("recording");
    say(this.tape, taping?.on ? `■ ${t("stop")}` : `● ${t("start")}`);
    this.save.disabled = this.again.disabled = !this.desk.last;
    const now = this.shown.store.now(performance.now());
    const length = taping?.on && taping.since !== null && now > taping.since ? span(now - taping.since) : "";
    const words = [this.problem, taping?.on ? t("taping", length) : "", taping?.saved ? t("saved", taping.saved) : "", said(taping?.error ?? ""), held ? t("waits") : ""];
    say(this.said, words.filter(Boolean).join(" · "));
    const past = this.desk.past;
    if (past && past !== this.played) {
      this.played = past;
      this.replay({ name: past.header.name, schema: past.header.schema, rows: past.rows, events: past.header.events, recorded: this.asked });
      this.asked = null;
    }
  }

  private refuse(problem: string): void {
    this.problem = problem;
    this.update();
  }

  private toggle(): void {
    this.refuse("");
    this.desk.ask(this.desk.taping?.on ? "stop" : "record");
  }

  private replay(tape: Tape): void {
    this.leave();
    this.ending = new AbortController();
    const player = new Player(tape);
    const speeds = choice(t("speed"), [["1", "1×"], ["10", "10×"]], "1", (value) => { player.speed = Number(value); player.hold(); player.play(); });
    const go = button("", () => (player.playing ? player.hold() : player.play()));
    const off = player.store.onChange(() => say(go, player.playing ? `❚❚ ${t("hold")}` : `▶ ${t("go")}`));
    const bar = h("div", { class: "cml-tools" }, h("b", {}, `${t("replay")}: ${tape.name}`), go, speeds.element,
      button(t("again"), () => player.rewind()), button(t("leave"), () => this.leave()));
    const host = h("div");
    this.stage.replaceChildren(bar, host);
    this.show(player, host, this.ending.signal);
    this.ending.signal.addEventListener("abort", () => { off(); player.hold(); });
    player.play();
  }

  /** Close the replay. */
  leave(): void {
    this.ending?.abort();
    this.ending = null;
    this.stage.replaceChildren();
  }

  private exporting(): HTMLElement {
    const { store } = this.shown;
    const name = () => this.shown.name();
    const picture = <T>(make: (root: HTMLElement) => T) => this.shown.picture(make);
    const file = (kind: string) => `${name().replace(/[^\w-]+/g, "-").slice(0, 60) || "dashboard"}.${kind}`;
    const kinds: [string, () => void | Promise<void>][] = [
      ["PNG", async () => download(file("png"), await picture(toPng), "image/png")],
      ["SVG", () => download(file("svg"), picture(toSvg), "image/svg+xml")],
      ["HTML", () => download(file("html"), picture((root) => toHtml(root, name())), "text/html")],
      ["CSV", () => download(file("csv"), toCsv(store), "text/csv")],
      ["JSON", () => download(file("json"), toJson(store, name(), this.desk.last), "application/json")],
      ["Perfetto", () => { if (this.desk.last) download(file("trace.json"), toTrace(this.desk.last), "application/json"); else this.refuse(t("nothing")); }],
    ];
    const fail = (error: unknown) => this.refuse(String((error as Error).message));
    const buttons = kinds.map(([text, write]) => {
      const made = button(text, () => { this.refuse(""); try { void Promise.resolve(write()).catch(fail); } catch (error) { fail(error); } }, "");
      mark(made, "aria-label", `${t("exporting")}: ${text}`);
      return made;
    });
    return h("div", { class: "cml-tools cml-s" }, h("span", { class: "cml-m" }, t("exporting")),
      h("span", { class: "cml-choice", role: "group", "aria-label": t("exporting") }, ...buttons));
  }
}
