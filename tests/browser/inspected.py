"""A page that plays the Inspector's host: no Jupyter, no kernel."""

HOST = """async ([source, style, state, scene, layouter]) => {
  const bytes = text => new DataView(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
  Object.assign(state, {scene: bytes(scene), layouter: bytes(layouter)});
  document.head.append(Object.assign(document.createElement('style'), {textContent: style}));
  const url = URL.createObjectURL(new Blob([source], {type: 'text/javascript'}));
  const widget = (await import(url)).default;
  const heard = {};
  const model = {get: k => state[k], on: (e, f) => (heard[e] ??= []).push(f), off() {}};
  const end = new AbortController();
  const el = document.createElement('div');
  document.querySelector('#cell').append(el);
  globalThis.host = {state, heard, el, end, files: []};
  HTMLAnchorElement.prototype.click = function () {
    fetch(this.href).then(r => r.text()).then(text => host.files.push([this.download, text]));
  };
  await widget.render({model, el, signal: end.signal});
}"""

# Drags the picture for so many frames; what each cost in ms, the last one settled. A canvas notes
# what is drawn and does it later: reading a point makes it do it now.
MOVED = """async frames => {
  const canvas = document.querySelector('.cmi-canvas'), box = canvas.getBoundingClientRect();
  const found = [];
  const heard = e => {
    const begin = performance.now();
    canvas.getContext('2d').getImageData(0, 0, 1, 1);
    found.push(e.detail.ms + performance.now() - begin);
  };
  host.el.addEventListener('cml:drawn', heard);
  const tell = (type, x, y) => canvas.dispatchEvent(new PointerEvent(type,
    {pointerId: 1, clientX: box.left + x, clientY: box.top + y, bubbles: true, button: 0}));
  canvas.setPointerCapture = () => {};
  tell('pointerdown', 400, 250);
  for (let i = 1; i <= frames; i++) {
    tell('pointermove', 400 - 3 * i, 250 - 2 * i);
    await new Promise(requestAnimationFrame);
  }
  tell('pointerup', 400 - 3 * frames, 250 - 2 * frames);
  await new Promise(done => setTimeout(done, 400));
  host.el.removeEventListener('cml:drawn', heard);
  return found;
}"""
