// Colours for the canvas, read from the widget's own style, so that light, dark and forced colours are the style sheet's affair.

const ROLES = ["cpu", "gpu", "ane", "move", "warn", "warntx", "all", "est", "soft", "shade", "bg", "tx", "tx2", "ln", "ln1", "ln3"] as const;

export type Role = (typeof ROLES)[number];

export interface Theme {
  colour: Record<Role, string>;
  font: string;
  dark: boolean;
}

/** Whether text on this ground must be light. */
function isDark(colour: string): boolean {
  const parts = colour.match(/[\d.]+/g)?.map(Number);
  if (!parts || parts.length < 3 || (parts.length > 3 && parts[3] === 0)) return false;
  const [r, g, b] = parts as [number, number, number];
  return 0.299 * r + 0.587 * g + 0.114 * b < 128;
}

/** Read the colours now in force; also tells the style sheet which palette the ground asks for. */
export function readTheme(root: HTMLElement): Theme {
  const dark = isDark(getComputedStyle(root).backgroundColor);
  root.dataset["dark"] = String(dark);
  const style = getComputedStyle(root);
  const colour = {} as Record<Role, string>;
  for (const role of ROLES) colour[role] = resolve(root, style.getPropertyValue(`--${role}`).trim());
  return { colour, font: `12px ${style.fontFamily}`, dark };
}

/** A colour that a canvas understands: variables may hold system colours or mixtures. */
function resolve(root: HTMLElement, value: string): string {
  const probe = document.createElement("i");
  probe.style.color = value;
  probe.hidden = true;
  root.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour || value;
}

/** Call back when the host's theme may have changed; JupyterLab swaps its style sheet a little after its attribute. */
export function watchTheme(callback: () => void, signal: AbortSignal): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const soon = () => {
    callback();
    clearTimeout(timer);
    timer = setTimeout(callback, 350);
  };
  const observer = new MutationObserver(soon);
  const options = { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class", "data-theme", "style"] };
  observer.observe(document.body, options);
  observer.observe(document.documentElement, options);
  for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) {
    matchMedia(query).addEventListener("change", soon, { signal });
  }
  signal.addEventListener("abort", () => {
    observer.disconnect();
    clearTimeout(timer);
  });
}

const tiles = new Map<string, CanvasPattern | string>();

/** A tile of parallel lines; 45 degrees marks an estimate, -45 a gap. */
export function hatch(colour: string, opacity: number, rising: boolean, scale: number): CanvasPattern | string {
  const key = [colour, opacity, rising, scale].join();
  const known = tiles.get(key);
  if (known) return known;
  const made = tile(colour, opacity, rising, scale);
  // A few per theme; more would be somebody else's doing.
  if (tiles.size > 50) tiles.clear();
  tiles.set(key, made);
  return made;
}

function tile(colour: string, opacity: number, rising: boolean, scale: number): CanvasPattern | string {
  const size = Math.max(4, Math.round(7 * scale));
  const square = document.createElement("canvas");
  square.width = square.height = size;
  const ctx = square.getContext("2d");
  if (!ctx) return "transparent";
  ctx.strokeStyle = colour;
  ctx.globalAlpha = opacity;
  ctx.lineWidth = scale;
  ctx.beginPath();
  for (const shift of [-size, 0, size]) {
    ctx.moveTo(shift, rising ? size : 0);
    ctx.lineTo(shift + size, rising ? 0 : size);
  }
  ctx.stroke();
  return ctx.createPattern(square, "repeat") ?? "transparent";
}
