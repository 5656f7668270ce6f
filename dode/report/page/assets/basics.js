// What every part uses: the data, elements, numbers, the state of the page.

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const DATA = read("data");
const CELLS = new Map(DATA.cells.map((cell) => [cell.name, cell]));
const DATASETS = new Map(DATA.datasets.map((dataset) => [dataset.id, dataset]));
const find = (id) => document.getElementById(id);

/** An element: attributes, `on…` listeners, then children (elements, text, or lists of them; null is left out). */
function make(name, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "line", "text", "rect", "circle"].includes(name);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/** A table with headings of its columns and rows as they come. */
const sheet = (attributes, headings, rows) =>
  make(
    "table",
    attributes,
    make(
      "thead",
      {},
      make(
        "tr",
        {},
        headings.map((text) => make("th", { scope: "col" }, text)),
      ),
    ),
    make("tbody", {}, rows),
  );

const solverOf = (cell) => DATA.solvers[cell.solver];
const titleOf = (cell) => `${solverOf(cell).label}, NFE ${cell.nfe}`;
const many = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
const alternatives = (texts, word = "and") =>
  texts.length < 2 ? texts.join("") : `${texts.slice(0, -1).join(", ")} ${word} ${texts[texts.length - 1]}`;

/** What stands for random halves of the data set's real images. */
const halvesTitle = () => `real halves (${many(dataset().halves.images, "image")} each)`;

/** A number with so many decimals, a proper minus sign, and no negative zero. */
function fixed(value, decimals) {
  const text = value.toFixed(decimals);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "−");
}

/** A number with about three digits. */
function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e6)) return value.toExponential(2).replace("-", "−");
  return String(Number(value.toPrecision(3))).replace("-", "−");
}

/** A score `[value, error]` as text, with the decimals of its table or else two digits of its error. */
function scored(score, key, decimals) {
  const kind = DATA.metrics[key];
  if (!score) return "–";
  if (score[0] === null) return "not finite";
  const [value, error] = [score[0] * kind.scale, score[1] === null ? null : score[1] * kind.scale];
  const digits = decimals ?? Math.min(Math.max(1 - Math.floor(Math.log10(error || Math.abs(value) / 20 || 1)), 0), 6);
  return error === null ? fixed(value, digits) : `${fixed(value, digits)} ± ${fixed(error, digits)}`;
}

/** The score of a cell in the chosen metric as text. */
const textOf = (cell) => scored(cell.scores[state.metric], state.metric, dataset().decimals[state.metric]);

const state = { dataset: DATA.datasets[0].id, metric: Object.keys(DATA.metrics)[0], nfe: null, cell: null };
const dataset = () => DATASETS.get(state.dataset);
const cellsOf = (id) => DATA.cells.filter((cell) => cell.dataset === id);
const measured = (id = state.dataset) => cellsOf(id).filter((cell) => !solverOf(cell).reference);
const metricName = () => DATA.metrics[state.metric].name;

/** What the address says: `#dataset=…&metric=…&nfe=…&cell=…`; the address of a section says nothing. */
function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  const cell = CELLS.get(said.get("cell"));
  const wanted = cell ? cell.dataset : said.get("dataset");
  if (DATASETS.has(wanted)) state.dataset = wanted;
  if (said.get("metric") in DATA.metrics) state.metric = said.get("metric");
  if (said.has("nfe")) state.nfe = Number(said.get("nfe"));
  state.cell = cell ? cell.name : null;
}

function writeAddress() {
  const said = new URLSearchParams({ dataset: state.dataset, metric: state.metric, nfe: state.nfe });
  if (state.cell) said.set("cell", state.cell);
  history.replaceState(null, "", `#${decodeURIComponent(said)}`);
}

/** The marker of a solver, as in the figures: hollow for plain, filled for distilled. */
function swatch(solver, size = 14) {
  const icon = make("svg", {
    width: size * 2,
    height: size,
    viewBox: "-14 -7 28 14",
    class: "swatch",
    "aria-hidden": "true",
  });
  if (!solver.color) return icon;
  paint(icon, solver);
  icon.append(
    make("line", { x1: -13, x2: 13, y1: 0, y2: 0, class: "line", "stroke-dasharray": solver.distilled ? null : "4 3" }),
  );
  icon.append(make("path", { d: SHAPES[solver.marker](4.5), class: solver.distilled ? "mark filled" : "mark" }));
  return icon;
}

/** Give an element a solver's colour, in both themes. */
function paint(element, solver) {
  element.style.setProperty("--light", solver.color);
  element.style.setProperty("--dark", solver.dark);
  element.classList.add("painted");
}

const polygon = (points) => `M${points.map(([x, y]) => `${x.toFixed(2)},${y.toFixed(2)}`).join("L")}Z`;
const around = (count, r, turn = -90) =>
  Array.from({ length: count }, (_, i) => ((turn + (360 * i) / count) * Math.PI) / 180).map((a) => [
    r * Math.cos(a),
    r * Math.sin(a),
  ]);
const cross = (r, turn) => {
  const w = r / 2.4;
  const points = [
    [w, r],
    [w, w],
    [r, w],
    [r, -w],
    [w, -w],
    [w, -r],
    [-w, -r],
    [-w, -w],
    [-r, -w],
    [-r, w],
    [-w, w],
    [-w, r],
  ];
  return polygon(points.map(([x, y]) => (turn ? [(x - y) * Math.SQRT1_2, (x + y) * Math.SQRT1_2] : [x, y])));
};
// Matplotlib's names of markers.
const SHAPES = {
  o: (r) => `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0Z`,
  s: (r) => polygon(around(4, r * 1.2, -45)),
  "^": (r) => polygon(around(3, r * 1.2)),
  v: (r) => polygon(around(3, r * 1.2, 90)),
  "<": (r) => polygon(around(3, r * 1.2, 180)),
  ">": (r) => polygon(around(3, r * 1.2, 0)),
  D: (r) => polygon(around(4, r * 1.25)),
  p: (r) => polygon(around(5, r * 1.15)),
  X: (r) => cross(r, true),
  P: (r) => cross(r * 1.1, false),
};
