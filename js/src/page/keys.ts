// The keyboard: 1-7 views, / search, ← → cursor, Esc cursor off, Space pause, [ ] window, t table.

export interface KeyActions {
  /** Move the cursor by a share of the window; negative is earlier. */
  moveCursor(share: number): void;
  clearCursor(): void;
  pause(): void;
  /** The next shorter (-1) or longer (1) window. */
  changeWindow(step: -1 | 1): void;
  /** The view with a number. */
  pick(number: number): void;
  find(): void;
  /** The strips as a table, or without it. */
  table(): void;
}

/** What a key does, or nothing. */
export function actionOf(key: string, onButton: boolean): ((actions: KeyActions) => void) | null {
  switch (key) {
    case "ArrowLeft": return (a) => a.moveCursor(-0.01);
    case "ArrowRight": return (a) => a.moveCursor(0.01);
    case "Escape": return (a) => a.clearCursor();
    case "[": return (a) => a.changeWindow(-1);
    case "]": return (a) => a.changeWindow(1);
    case "/": return (a) => a.find();
    case "t": case "T": return (a) => a.table();
    case "1": case "2": case "3": case "4": case "5": case "6": case "7": return (a) => a.pick(Number(key));
    // A focused button is pressed by Space itself.
    case " ": return onButton ? null : (a) => a.pause();
    default: return null;
  }
}

export function listen(root: HTMLElement, actions: KeyActions, signal: AbortSignal): void {
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    // Whoever writes into a field means the field.
    if ((event.target as HTMLElement | null)?.matches("input, select, textarea")) {
      if (event.key === "Escape") root.focus();
      return;
    }
    const action = actionOf(event.key, (event.target as HTMLElement | null)?.tagName === "BUTTON");
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action(actions);
  }, { signal });
}
