// Draws every figure in the colours of the reader's ground, and anew where that changes.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const tables = JSON.parse(document.getElementById("colours").textContent);
  let drawn = [];
  const draw = async () => {
    for (const views of drawn) views.clear();
    drawn = [];
    for (const place of document.querySelectorAll("[data-figure]")) {
      const told = document.getElementById(place.dataset.figure).textContent;
      const item = JSON.parse(told, (_, value) => (dark.matches && tables[value]) || value);
      place.replaceChildren();
      drawn.push(await Bokeh.embed.embed_item(item, place));
    }
    document.documentElement.dataset.drawn = String(drawn.length);
  };
  dark.addEventListener("change", draw);
  draw();
})();
