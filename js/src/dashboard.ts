// The widget: one store per model, listening from the start; one view per output that shows it.

import "./dashboard.css";
import { isFrame } from "./data/decode";
import { Desk } from "./data/desk";
import { h } from "./page/dom";
import { type About, type Chip, type Do, type Heartbeat, type Hello, type Schema, VERSION } from "./data/messages";
import { Store } from "./data/store";
import { t } from "./text/text";
import { View } from "./view";

const HEARTBEAT = 5_000;

/** What the host gives us, as far as we use it. */
interface Model {
  get(key: string): unknown;
  on(event: string, callback: (...args: never[]) => void): void;
  off(event: string, callback: (...args: never[]) => void): void;
  send(content: Hello | Heartbeat | Do): void;
}

interface Context {
  model: Model;
  signal?: AbortSignal;
}

/** The module may be loaded per model, or once for all: everything that lasts hangs on one widget's own closure. */
export default function dashboard() {
  let store: Store | null = null;
  let gone = false;

  function tell(model: Model, k: "hello" | "hb"): void {
    try {
      model.send({ k, v: VERSION });
    } catch {
      // No connection: the kernel is gone, and the view says so.
      lose();
    }
  }

  function lose(): void {
    gone = true;
    if (!store) return;
    store.gone = true;
    store.changed();
  }

  /** The store, once the kernel has told its columns: it may still be starting its sampler. */
  function known(model: Model): Store | null {
    const schema = model.get("schema") as Partial<Schema> | undefined;
    if (!store && schema?.columns?.length) {
      store = new Store(schema as Schema);
      store.gone = gone;
    }
    return store;
  }

  function open(model: Model, signal: AbortSignal): Desk {
    const desk = new Desk((wish) => {
      try {
        model.send(wish);
      } catch {
        lose();
      }
    });
    const heard = (message: unknown, buffers: DataView[]) => {
      if (isFrame(message)) known(model)?.accept(message, buffers[0], performance.now());
      else desk.accept(message, buffers[0]);
    };
    model.on("msg:custom", heard as never);
    model.on("comm_live_update", lose);
    signal.addEventListener("abort", () => {
      model.off("msg:custom", heard as never);
      model.off("comm_live_update", lose);
    });
    return desk;
  }

  function keepAlive(model: Model, shown: Store, view: View, signal: AbortSignal): void {
    let busy = false;
    const beat = () => {
      // While a cell runs the kernel cannot hear us: it would find a heap of heartbeats afterwards.
      if (!shown.gone && !shown.state?.busy && view.watched) tell(model, "hb");
    };
    shown.beat = beat;
    const timer = setInterval(beat, HEARTBEAT);
    const off = shown.onChange(() => {
      if (busy && !shown.state?.busy) beat();
      busy = shown.state?.busy ?? false;
    });
    document.addEventListener("visibilitychange", beat, { signal });
    signal.addEventListener("abort", () => {
      clearInterval(timer);
      off();
    });
  }

  function show(model: Model, shown: Store, desk: Desk, el: HTMLElement, signal: AbortSignal): void {
    const facts = () => ({ about: (model.get("about") ?? {}) as About, chips: (model.get("chips") ?? []) as Chip[] });
    const view = new View(shown, desk, facts, el, signal);
    for (const name of ["about", "chips"]) model.on(`change:${name}`, view.retell);
    keepAlive(model, shown, view, signal);
    signal.addEventListener("abort", () => {
      for (const name of ["about", "chips"]) model.off(`change:${name}`, view.retell);
    });
  }

  /** Say that it waits, and show the view as soon as there is something to show. */
  function wait(model: Model, desk: Desk, el: HTMLElement, signal: AbortSignal): void {
    const note = h("section", { class: "cml" }, h("p", { class: "cml-empty", role: "status" }, t("waitKernel")));
    const later = () => {
      const told = known(model);
      if (!told) return;
      end();
      show(model, told, desk, el, signal);
    };
    const end = () => { model.off("change:schema", later); note.remove(); };
    model.on("change:schema", later);
    signal.addEventListener("abort", end);
    el.append(note);
  }

  let desk: Desk | null = null;
  return {
    initialize({ model, signal }: Context): void {
      desk = open(model, signal ?? new AbortController().signal);
      tell(model, "hello");
    },

    render({ model, el, signal }: Context & { el: HTMLElement }): () => void {
      const ending = new AbortController();
      signal?.addEventListener("abort", () => ending.abort());
      desk ??= open(model, ending.signal);
      const told = known(model);
      if (told) show(model, told, desk, el, ending.signal);
      else wait(model, desk, el, ending.signal);
      return () => ending.abort();
    },
  };
}
