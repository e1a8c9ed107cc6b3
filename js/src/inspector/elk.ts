// ELK's layered layout in a worker of its own: the page never waits for it. What was set before is remembered.

import ELK, { type ELK as Elk, type ElkExtendedEdge, type ElkNode } from "elkjs/lib/elk-api";

import { type Chunk, type ChunkEdge, isBottom, isTop, plain, type Point, routed, type Settled, type Setter } from "./chunk";
import { GAP, ROW } from "./columns";

const OPTIONS = {
  "elk.algorithm": "layered", "elk.direction": "DOWN", "elk.edgeRouting": "ORTHOGONAL",
  "elk.layered.spacing.nodeNodeBetweenLayers": String(ROW), "elk.spacing.nodeNode": String(GAP),
  "elk.layered.spacing.edgeNodeBetweenLayers": "10", "elk.layered.spacing.edgeEdgeBetweenLayers": "8",
  "elk.spacing.edgeNode": "12", "elk.spacing.edgeEdge": "8", "elk.padding": "[top=0,left=0,bottom=0,right=0]",
  "elk.layered.nodePlacement.strategy": "BRANDES_KOEPF", "elk.layered.nodePlacement.bk.fixedAlignment": "BALANCED",
  "elk.layered.considerModelOrder.strategy": "NODES_AND_EDGES",
  "elk.layered.thoroughness": "5", "elk.randomSeed": "1", "elk.separateConnectedComponents": "false",
};

/** So many values on their way through a column are laid out with it; the others go straight: each makes a node per layer. */
const BORDER = 12;
/** A column that takes longer is set plainly. */
const PATIENCE = 30_000;

export interface Layouter {
  set: Setter;
  end(): void;
}

/** Start the worker from the text of its script; throws where the host allows no workers. */
export function elk(script: string): Layouter {
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const worker = new Worker(url);
  const api: Elk = new ELK({ workerFactory: () => worker });
  const known = new Map<string, Promise<Settled>>();
  let broken: (error: Error) => void = () => {};
  const dead = new Promise<never>((_, failed) => { broken = failed; });
  dead.catch(() => {});
  worker.addEventListener("error", () => broken(new Error("the layout's worker failed")));
  const patient = async (chunk: Chunk, graph: ElkNode): Promise<Settled> => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, failed) => {
      timer = setTimeout(() => failed(new Error("too long")), PATIENCE * Math.max(1, (waiting += 1)));
    });
    try {
      return fromElk(chunk, await Promise.race([api.layout(graph), dead, late]));
    } catch {
      return plain(chunk);
    } finally {
      waiting -= 1;
      clearTimeout(timer);
    }
  };
  let waiting = 0;
  return {
    set(chunk) {
      const graph = toElk(chunk);
      const key = JSON.stringify(graph);
      const made = known.get(key) ?? patient(chunk, graph);
      known.set(key, made);
      return made;
    },
    end() {
      worker.terminate();
      URL.revokeObjectURL(url);
    },
  };
}

export function toElk(chunk: Chunk): ElkNode {
  const end = (place: number, port?: string) => (port === undefined ? `n${place}` : `n${place}:${port}`);
  const children: ElkNode[] = chunk.items.map((item, i) => ({
    id: `n${i}`, width: item.w, height: item.h,
    ...(item.ports.length && {
      layoutOptions: { "elk.portConstraints": "FIXED_POS" },
      ports: item.ports.map((port) => ({
        id: `n${i}:${port.id}`, x: port.x, y: port.side === "NORTH" ? 0 : item.h, width: 0, height: 0,
        layoutOptions: { "elk.port.side": port.side },
      })),
    }),
  }));
  const border = (id: string, layer: string): ElkNode =>
    ({ id, width: 2, height: 0.01, layoutOptions: { "elk.layered.layering.layerConstraint": layer } });
  for (let i = 0; i < Math.min(chunk.tops, BORDER); i++) children.push(border(`t${i}`, "FIRST_SEPARATE"));
  for (let i = 0; i < Math.min(chunk.bottoms, BORDER); i++) children.push(border(`b${i}`, "LAST_SEPARATE"));
  const edges: ElkExtendedEdge[] = chunk.edges.flatMap((e, i) => (loose(e) ? [] : [{
    id: `e${i}`, sources: [isTop(e.from) ? `t${e.from.top}` : end(e.from.place, e.from.port)],
    targets: [isBottom(e.to) ? `b${e.to.bottom}` : end(e.to.place, e.to.port)],
  }]));
  return { id: "r", layoutOptions: OPTIONS, children, edges };
}

function loose(edge: ChunkEdge): boolean {
  return (isTop(edge.from) && edge.from.top >= BORDER) || (isBottom(edge.to) && edge.to.bottom >= BORDER);
}

function fromElk(chunk: Chunk, set: ElkNode): Settled {
  const at = new Map((set.children ?? []).map((c) => [c.id, { x: c.x ?? 0, y: c.y ?? 0 }]));
  const place = (id: string): Point | undefined => at.get(id);
  const items = chunk.items.map((_, i) => place(`n${i}`) ?? { x: 0, y: 0 });
  const straight = routed(chunk, items, { w: set.width ?? 0, h: set.height ?? 0 });
  const edges = new Map((set.edges ?? []).map((e) => [e.id, points(e as ElkExtendedEdge)]));
  const x = (id: string, or: number) => (at.has(id) ? (place(id) as Point).x + 1 : or);
  return {
    ...straight,
    tops: straight.tops.map((or, i) => x(`t${i}`, or)),
    bottoms: straight.bottoms.map((or, i) => x(`b${i}`, or)),
    edges: straight.edges.map((or, i) => edges.get(`e${i}`) ?? or),
  };
}

function points(edge: ElkExtendedEdge): Point[] {
  return (edge.sections ?? []).flatMap((s) => [s.startPoint, ...(s.bendPoints ?? []), s.endPoint]);
}
