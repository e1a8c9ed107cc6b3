// Which part of a picture is seen, and how large. Pure.

import type { Point } from "./chunk";
import type { Rect } from "./layout";

export interface Camera {
  /** Of the picture, at the left and the top of what is seen. */
  x: number;
  y: number;
  scale: number;
}

export const NEAREST = 2.5;

export function zoomAt(camera: Camera, factor: number, at: Point, least: number): Camera {
  const scale = Math.min(NEAREST, Math.max(least, camera.scale * factor));
  return { scale, x: camera.x + at.x / camera.scale - at.x / scale, y: camera.y + at.y / camera.scale - at.y / scale };
}

/** All of `rect`, in the middle of a view. */
export function fitting(rect: Rect, w: number, h: number, most = 1): Camera {
  const scale = Math.min(most, (w - 24) / Math.max(rect.w, 1), (h - 24) / Math.max(rect.h, 1));
  return { scale, x: rect.x + rect.w / 2 - w / 2 / scale, y: rect.y + rect.h / 2 - h / 2 / scale };
}

/** Moved as little as shows a rectangle, with some space around it; nearer if it would be too small to read. */
export function showing(camera: Camera, rect: Rect, w: number, h: number, least = 0): Camera {
  const scale = Math.max(camera.scale, least);
  const middle = { x: rect.x + rect.w / 2, y: rect.y + rect.h / 2 };
  if (scale !== camera.scale) return { scale, x: middle.x - w / 2 / scale, y: middle.y - h / 2 / scale };
  const [padX, padY] = [Math.min(60, w / 6) / scale, Math.min(60, h / 6) / scale];
  const x = shifted(camera.x, w / scale, rect.x - padX, rect.x + rect.w + padX);
  const y = shifted(camera.y, h / scale, rect.y - padY, rect.y + rect.h + padY);
  return { scale, x, y };
}

function shifted(start: number, length: number, low: number, high: number): number {
  if (high - low > length) return (low + high - length) / 2;
  if (low < start) return low;
  return high > start + length ? high - length : start;
}

/** Between two views, the zoom evenly by factors. */
export function between(a: Camera, b: Camera, share: number, w: number, h: number): Camera {
  const scale = a.scale * (b.scale / a.scale) ** share;
  const [ax, ay] = [a.x + w / 2 / a.scale, a.y + h / 2 / a.scale];
  const [bx, by] = [b.x + w / 2 / b.scale, b.y + h / 2 / b.scale];
  // Going along a straight line while zooming looks curved unless the way follows the zoom.
  const way = Math.abs(b.scale - a.scale) < 1e-9 ? share : (1 / a.scale - 1 / scale) / (1 / a.scale - 1 / b.scale);
  return { scale, x: ax + (bx - ax) * way - w / 2 / scale, y: ay + (by - ay) * way - h / 2 / scale };
}
