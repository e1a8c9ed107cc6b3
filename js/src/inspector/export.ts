// The graph as a file: SVG of rectangles and texts, PNG of the canvas's own picture; made by the page alone.

import { groupTitle } from "./labels";
import { paint, type Sketch, type Style } from "./paint";

const MARGIN = 24;
/** Browsers refuse larger canvases. */
const [SIDE, AREA] = [12_000, 60_000_000];

export function toSvg(sketch: Sketch, style: Style): string {
  const { w, h } = sketch.layout;
  const { colour, font } = style.theme;
  const family = attribute(font.replace(/^12px /, "").replace(/system-ui|-apple-system|BlinkMacSystemFont/g, "sans-serif"));
  const out = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${num(w + 2 * MARGIN)}" height="${num(h + 2 * MARGIN)}" viewBox="${-MARGIN} ${-MARGIN} ${num(w + 2 * MARGIN)} ${num(h + 2 * MARGIN)}" font-family="${family}" role="img">`,
    `<title>${escape(sketch.program.picture.name)}</title><defs><pattern id="unknown" width="7" height="7" patternUnits="userSpaceOnUse"><path d="M-1 1l2-2M0 7l7-7M6 8l2-2" stroke="${colour.all}" stroke-width="1"/></pattern>`,
    `<marker id="head" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" markerHeight="6" orient="auto" markerUnits="userSpaceOnUse"><path d="M0 0l6 3-6 3z" fill="${colour.all}"/></marker></defs>`,
    `<rect x="${-MARGIN}" y="${-MARGIN}" width="100%" height="100%" fill="${colour.bg}"/>`,
  ];
  for (const { group, rect } of sketch.layout.frames) {
    out.push(`<rect ${box(rect)} rx="8" fill="${colour.shade}" stroke="${colour.ln1}"/>`);
    out.push(`<text x="${num(rect.x + 10)}" y="${num(rect.y + 18)}" font-size="12" font-weight="600" fill="${colour.tx2}">${escape(groupTitle(sketch.program, group))}</text>`);
  }
  out.push(`<g fill="none" stroke="${colour.all}" stroke-width="1.1" stroke-opacity=".75">`);
  for (const wire of sketch.layout.wires) {
    out.push(`<path d="M${wire.points.map((p) => `${num(p.x)} ${num(p.y)}`).join("L")}"${wire.head ? ' marker-end="url(#head)"' : ""}/>`);
  }
  out.push("</g>");
  for (const { rect, look, title, sub } of sketch.boxes) {
    const fill = look.colour ? (style.palette[look.colour] ?? colour.all) : null;
    if (look.group) out.push(`<rect ${box({ ...rect, x: rect.x + 4, y: rect.y - 4 })} rx="5" fill="${colour.bg}" stroke="${fill ?? colour.ln1}"/>`);
    out.push(`<rect ${box(rect)} rx="5" fill="${colour.bg}"/>`);
    if (fill) out.push(`<rect ${box(rect)} rx="5" fill="${fill}" fill-opacity="${style.theme.dark ? 0.3 : 0.2}" stroke="${fill}"/><rect x="${num(rect.x)}" y="${num(rect.y)}" width="4" height="${num(rect.h)}" fill="${fill}"/>`);
    else out.push(`<rect ${box(rect)} rx="5" fill="${look.known ? "none" : "url(#unknown)"}" stroke="${look.known ? colour.ln1 : colour.all}"${look.known ? "" : ' stroke-dasharray="3 3"'}/>`);
    const y = rect.y + (look.group ? rect.h - 6 : rect.h) / 2;
    out.push(`<text x="${num(rect.x + 11)}" y="${num(y - 3)}" font-size="12" font-weight="600" fill="${colour.tx}">${escape(title)}</text>`);
    out.push(`<text x="${num(rect.x + 11)}" y="${num(y + 12)}" font-size="10.5" fill="${colour.tx2}">${escape(sub)}</text>`);
    if (look.tag) out.push(`<text x="${num(rect.x + rect.w - 7)}" y="${num(y - 4)}" font-size="10" text-anchor="end" fill="${colour.tx2}">${escape(look.tag)}</text>`);
    let x = rect.x;
    for (const [name, share] of look.parts ?? []) {
      out.push(`<rect x="${num(x)}" y="${num(rect.y + rect.h - 6)}" width="${num(rect.w * share)}" height="6" fill="${style.palette[name] ?? colour.all}"/>`);
      x += rect.w * share;
    }
  }
  out.push("</svg>");
  return out.join("\n");
}

export function toPng(sketch: Sketch, style: Style): Promise<Blob> {
  const { w, h } = sketch.layout;
  const [wide, high] = [w + 2 * MARGIN, h + 2 * MARGIN];
  const scale = Math.min(2, SIDE / Math.max(wide, high), Math.sqrt(AREA / (wide * high)));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.ceil(wide * scale), Math.ceil(high * scale)];
  const ctx = canvas.getContext("2d");
  if (ctx) paint(ctx, sketch, { x: -MARGIN, y: -MARGIN, scale }, canvas.width, canvas.height, 1, style, { selected: null, hovered: null, found: null });
  return new Promise((done, failed) => canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error("no picture"))), "image/png"));
}

function box(rect: { x: number; y: number; w: number; h: number }): string {
  return `x="${num(rect.x)}" y="${num(rect.y)}" width="${num(rect.w)}" height="${num(rect.h)}"`;
}

function num(value: number): string {
  return String(Math.round(value * 10) / 10);
}

/** A model's names may hold anything. */
export function escape(text: string): string {
  // eslint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "\ufffd").replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function attribute(text: string): string {
  return escape(text).replace(/"/g, "'");
}
