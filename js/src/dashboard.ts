// The widget: one store per model, listening from the start; one view per output that shows it.

import "./dashboard.css";
import { isFrame } from "./decode";
import { Desk } from "./desk";
import { type About, type Chip, type Do, type Heartbeat, type Hello, type Schema, VERSION } from "./messages";
import { Store } from "./store";
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
  let desk: Desk | null = null;

  function tell(model: Model, k: "hello" | "hb"): void {
    try {
      model.send({ k, v: VERSION });
    } catch {
      // No connection: the kernel is gone, and the view says so.
      if (store) store.gone = true;
    }
  }

  function open(model: Model, signal: AbortSignal): Store {
    const opened = new Store(model.get("schema") as Schema);
    desk = new Desk((wish) => {
      try {
        model.send(wish);
      } catch {
        opened.gone = true;
        opened.changed();
      }
    });
    const heard = (message: unknown, buffers: DataView[]) => {
      if (isFrame(message)) opened.accept(message, buffers[0], performance.now());
      else desk?.accept(message, buffers[0]);
    };
    const broken = () => {
      opened.gone = true;
      opened.changed();
    };
    model.on("msg:custom", heard as never);
    model.on("comm_live_update", broken);
    signal.addEventListener("abort", () => {
      model.off("msg:custom", heard as never);
      model.off("comm_live_update", broken);
    });
    return opened;
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

  return {
    initialize({ model, signal }: Context): void {
      store = open(model, signal ?? new AbortController().signal);
      tell(model, "hello");
    },

    render({ model, el, signal }: Context & { el: HTMLElement }): () => void {
      const ending = new AbortController();
      signal?.addEventListener("abort", () => ending.abort());
      store ??= open(model, ending.signal);
      const facts = () => ({ about: (model.get("about") ?? {}) as About, chips: (model.get("chips") ?? []) as Chip[] });
      const view = new View(store, desk ?? new Desk(() => {}), facts, el, ending.signal);
      for (const name of ["about", "chips"]) model.on(`change:${name}`, view.retell);
      keepAlive(model, store, view, ending.signal);
      ending.signal.addEventListener("abort", () => {
        for (const name of ["about", "chips"]) model.off(`change:${name}`, view.retell);
      });
      return () => ending.abort();
    },
  };
}
