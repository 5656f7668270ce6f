// What every part uses: elements, numbers, and the parts of the page that the templates fill.

const find = (id) => document.getElementById(id);

/** An element: attributes, `on…` listeners, then children (elements or text). */
function make(name, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "line", "text", "circle", "use"].includes(name);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** A number with about three digits. */
function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e6)) return value.toExponential(2).replace("-", "−");
  return String(Number(value.toPrecision(3))).replace("-", "−");
}

/** Fill an element with the page's block of that name, in which Jinja has escaped all text; false if there is none. */
function fill(element, name) {
  const block = find(name);
  element.innerHTML = block?.textContent ?? "";
  fillSamples(element);
  for (const box of element.querySelectorAll("[data-chart]")) {
    const options = onAxis(JSON.parse(box.dataset.chart));
    for (const line of options.lines) line.points = pointsOf(line);
    chart(box, options);
  }
  return Boolean(block);
}

/** Fill the part of the page of that name. */
const fillPart = (part, name) => fill(document.querySelector(`[data-part="${part}"]`), `${part}/${name}`);

const parsed = new Map();

/** The pictures of a cell; undefined if there are none or they have not been read yet. */
function picturesOf(name) {
  if (!parsed.has(name)) {
    const block = document.querySelector(`script[data-pictures="${CSS.escape(name)}"]`);
    if (!block) return undefined;
    parsed.set(name, JSON.parse(block.textContent));
  }
  return parsed.get(name);
}

/** The samples of a strip, side by side in the boxes reserved for them. */
function fillSamples(element) {
  for (const box of element.querySelectorAll("[data-samples]")) {
    const found = picturesOf(box.dataset.samples)?.samples;
    if (!found) continue;
    box.style.setProperty("--strip", `url(data:image/png;base64,${found.png})`);
    box.style.setProperty("--count", found.count);
    box.style.setProperty("--ratio", `${found.width} / ${found.height}`);
    const at = (i) => `--at: ${(100 * i) / Math.max(found.count - 1, 1)}%`;
    box.replaceChildren(...Array.from({ length: box.dataset.count }, (_, i) => make("i", { style: at(i) })));
  }
}

/** The points of a chart's line, which may instead be given as values per evaluation or as a way in a cell's pictures. */
function pointsOf({ points, values, way }) {
  if (values) return values.map((y, k) => ({ x: k, y, text: `evaluation ${k}: ${short(y)}` }));
  if (!way) return points;
  const { sigmas, error, pixels } = picturesOf(way.cell).trajectory;
  // An error of zero has no place on a logarithmic axis.
  const [word, own] = "pixel" in way ? ["x", pixels[way.pixel]] : ["error", error.map((each) => each || null)];
  return sigmas.map((x, i) => ({ x, y: own[i], text: `σ ${short(x)}: ${word} ${short(own[i])}` }));
}
