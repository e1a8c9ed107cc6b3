// The view as it stands, as HTML, SVG or PNG: made by the page alone, whatever the kernel does.

const XHTML = "http://www.w3.org/1999/xhtml";
/** Roles whose values come from the host: written out, so that the picture needs no host. */
/** What the style sheet asks of its host. */
const HOSTED = [
  "--jp-layout-color1", "--jp-layout-color2", "--jp-ui-font-color1", "--jp-ui-font-color2", "--jp-border-color1", "--jp-border-color2", "--jp-border-color3",
  "--jp-brand-color1", "--jp-brand-color3", "--jp-inverse-layout-color1", "--jp-ui-inverse-font-color1", "--jp-ui-font-family", "--jp-code-font-family",
  "--jp-border-radius", "--vscode-editor-background", "--vscode-editorWidget-background", "--vscode-foreground", "--vscode-descriptionForeground",
  "--vscode-widget-border", "--vscode-contrastBorder", "--vscode-focusBorder", "--vscode-font-family",
];
const HOST = ["--bg", "--bg2", "--tx", "--tx2", "--ln", "--ln1", "--ln3", "--br", "--on", "--flag", "--flagtx", "--jp-ui-font-family", "--jp-code-font-family"];

/** The style sheet of the dashboard, as text. */
export function sheetText(): string {
  const found: string[] = [];
  for (const sheet of document.styleSheets) {
    // The text as it was written: a browser writes a shorthand with var() and a later longhand back as nothing.
    const written = sheet.ownerNode instanceof HTMLStyleElement ? sheet.ownerNode.textContent : "";
    if (written?.includes(".cml-live")) {
      found.push(written);
      continue;
    }
    try {
      const text = [...sheet.cssRules].map((rule) => rule.cssText);
      if (text.some((rule) => rule.includes(".cml"))) found.push(...text);
    } catch {
      // A sheet of another origin may not be read; ours is none.
    }
  }
  return found.join("\n");
}

/** What the host gives the sheet, as declarations for another page. */
export function readRoles(root: HTMLElement): string {
  const style = getComputedStyle(root);
  return HOSTED.map((name) => [name, style.getPropertyValue(name)]).filter(([, value]) => value?.trim()).map(([name, value]) => `${name}:${value}`).join(";");
}

/** A copy without life: canvases become pictures, buttons stay as they look. */
function still(root: HTMLElement): HTMLElement {
  const copy = root.cloneNode(true) as HTMLElement;
  const canvases = root.querySelectorAll("canvas");
  copy.querySelectorAll("canvas").forEach((canvas, i) => {
    const image = document.createElement("img");
    const source = canvases[i] as HTMLCanvasElement;
    if (source.width && source.height) image.src = source.toDataURL();
    image.alt = "";
    image.setAttribute("style", `${canvas.getAttribute("style") ?? ""};width:${source.clientWidth}px;height:${source.clientHeight}px`);
    image.className = canvas.className;
    canvas.replaceWith(image);
  });
  copy.querySelectorAll("[hidden]").forEach((element) => element.remove());
  const style = getComputedStyle(root);
  // One that the host leaves out must stay out: an empty value would hide the fallback.
  const roles = HOST.map((name) => [name, style.getPropertyValue(name)]).filter(([, value]) => value?.trim()).map(([name, value]) => `${name}:${value}`);
  // Fonts are named: a picture's own idea of the system's font is another one.
  roles.push(`--jp-ui-font-family:${style.fontFamily.replace(/system-ui|-apple-system|BlinkMacSystemFont/g, "sans-serif")}`);
  copy.setAttribute("style", `width:${root.offsetWidth}px;${roles.join(";")}`);
  return copy;
}

/** A page of its own, without scripts. */
export function toHtml(root: HTMLElement, title: string): string {
  const page = document.implementation.createHTMLDocument(title);
  const meta = page.createElement("meta");
  meta.setAttribute("charset", "utf-8");
  page.head.prepend(meta);
  const style = page.createElement("style");
  style.textContent = sheetText();
  page.head.append(style);
  page.body.append(page.adoptNode(still(root)));
  return `<!doctype html>\n${page.documentElement.outerHTML}`;
}

export function toSvg(root: HTMLElement): string {
  const [width, height] = [root.offsetWidth, root.offsetHeight];
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  picture.setAttribute("width", String(width));
  picture.setAttribute("height", String(height));
  picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const inside = document.createElementNS("http://www.w3.org/2000/svg", "foreignObject");
  inside.setAttribute("width", "100%");
  inside.setAttribute("height", "100%");
  const body = document.createElementNS(XHTML, "div");
  const style = document.createElementNS(XHTML, "style");
  style.textContent = sheetText();
  body.append(style, still(root));
  inside.append(body);
  picture.append(inside);
  return new XMLSerializer().serializeToString(picture);
}

export async function toPng(root: HTMLElement): Promise<Blob> {
  const [width, height] = [root.offsetWidth, root.offsetHeight];
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(toSvg(root))}`;
  await image.decode();
  const scale = Math.max(1, devicePixelRatio || 1);
  const canvas = document.createElement("canvas");
  canvas.width = width * scale;
  canvas.height = height * scale;
  canvas.getContext("2d")?.drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done, failed) => canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error("no picture"))), "image/png"));
}

/** Hand a file to the reader. */
export function download(name: string, content: Blob | string, type: string): void {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
