// One cell: its scores, samples, coefficients, way, and how to make it again.

const parsed = new Map();

/** The pictures of a cell, null where there are none or they are not read yet. */
function picturesOf(name) {
  if (!parsed.has(name)) {
    const block = document.querySelector(`script[data-pictures="${CSS.escape(name)}"]`);
    if (!block) return null;
    parsed.set(name, JSON.parse(block.textContent));
  }
  return parsed.get(name);
}

/** Single images of a strip, side by side. */
function tiles(found, count, label) {
  const box = make("div", { class: "tiles", role: "img", "aria-label": label });
  box.style.setProperty("--strip", `url(data:image/png;base64,${found.png})`);
  box.style.setProperty("--count", found.count);
  for (let i = 0; i < count; i++) {
    const tile = make("i");
    tile.style.setProperty("--at", found.count > 1 ? `${(100 * i) / (found.count - 1)}%` : "0");
    tile.style.aspectRatio = `${found.width} / ${found.height}`;
    box.append(tile);
  }
  return box;
}

/** Cells on the same noise under one another: this one, its plain or distilled relatives, the fine-step one. */
function relatives(cell) {
  const plain = cell.plain || cell.name;
  const family = cellsOf(cell.dataset).filter((each) => each.name === plain || each.plain === plain);
  const others = family.filter((each) => each !== cell).slice(0, 3);
  return [cell, ...others, CELLS.get(DATASETS.get(cell.dataset).reference)].filter(
    (each, i, all) => each && all.indexOf(each) === i,
  );
}

function samplesPart(cell) {
  const rows = relatives(cell)
    .map((each) => [each, picturesOf(each.name)?.samples])
    .filter(([, found]) => found);
  if (!rows.length || rows[0][0] !== cell) return [];
  const few = Math.min(...rows.map(([, found]) => found.count));
  return [
    make("h3", {}, "Samples"),
    make(
      "p",
      { class: "note" },
      "A column is one noise: what differs in it is the solver's doing. Not selected: the first images of the first seed.",
    ),
    make(
      "div",
      { class: "wide samples", role: "region", "aria-label": "Samples", tabindex: 0 },
      rows.map(([each, found]) =>
        make(
          "div",
          { class: each === cell ? "row own" : "row" },
          make("span", {}, solverOf(each).reference ? titleOf(each) : solverOf(each).label),
          tiles(found, few, `${few} samples of ${titleOf(each)}`),
        ),
      ),
    ),
  ];
}

function scoresPart(cell) {
  const plain = cell.plain && CELLS.get(cell.plain);
  const rows = Object.keys(DATA.metrics)
    .filter((key) => cell.scores[key])
    .map((key) => {
      const [, , kind, settings] = cell.scores[key];
      return make(
        "tr",
        {},
        make(
          "th",
          { scope: "row" },
          DATA.metrics[key].name,
          make("small", {}, ` ${DATA.metrics[key].lower ? "↓" : "↑"}`),
        ),
        make("td", {}, scored(cell.scores[key], key)),
        plain ? make("td", {}, scored(plain.scores[key], key)) : null,
        make(
          "td",
          { class: "small" },
          [
            cell.scores[key][1] === null ? "" : `over ${kind}`,
            ...Object.entries(settings || {})
              .filter(([, value]) => typeof value === "number")
              .map((pair) => pair.join(" ")),
          ]
            .filter(Boolean)
            .join(", "),
        ),
      );
    });
  return [
    make(
      "div",
      { class: "wide", role: "region", "aria-label": "Scores", tabindex: 0 },
      sheet({ class: "numbers" }, ["score", "this cell", ...(plain ? ["plain"] : []), "± is, and settings"], rows),
    ),
  ];
}

/** Parameters as text, without braces and quotes. */
const said = (value) =>
  value !== null && typeof value === "object"
    ? Object.entries(value)
        .map(([key, inner]) => `${key} ${said(inner)}`)
        .join(", ") || "none"
    : String(value);

/** A command, with a button that copies it. */
function commandLine(text) {
  const copied = make("output", { class: "note" });
  const copy = () =>
    navigator.clipboard.writeText(text).then(
      () => (copied.textContent = "Copied."),
      () => (copied.textContent = "Select it and copy."),
    );
  return make(
    "p",
    { class: "command" },
    make("code", {}, text),
    make("button", { type: "button", onclick: copy }, "Copy"),
    copied,
  );
}

function homePart(cell) {
  const results = `results/${DATA.title}`,
    where = `${cell.dataset} ${cell.solver} ${cell.nfe}`;
  return [
    make("h3", {}, "Take it home"),
    make("p", { class: "note" }, "Solver, noise levels and λ as one file for dode.load and for diffusers:"),
    commandLine(`python -m dode export ${results} ${where} --output ${cell.solver}-nfe${cell.nfe}.json`),
    make("h3", {}, "Make it again"),
    make(
      "p",
      { class: "note" },
      make("button", { type: "button", class: "link", onclick: saveConfig }, `Save ${DATA.title}.json`),
      ", then this; on the same machine and software the images are the same to the bit.",
    ),
    // --configfile takes all that follows it.
    commandLine(`snakemake ${results}/${cell.name}/score.json --configfile ${DATA.title}.json`),
  ];
}

function provenancePart(cell) {
  const own = DATASETS.get(cell.dataset);
  const { run, samples, fit, code, environments } = cell.made,
    { against, extractor } = cell.scored;
  const sum = (...texts) => make("code", { class: "sum" }, texts.join(" "));
  const facts = [
    ...Object.entries(run).map(([key, value]) => [key, said(value)]),
    ["samples", said(samples)],
    ...(fit ? [["fit", said(fit)]] : []),
    ["model", checkpoint(own.model)],
    ["scored against", [realText(own), make("br"), sum(against.file, against.sha256)]],
    ["features", sum(extractor)],
    ["code", said(code)],
    ...Object.entries(environments).map(([kind, indices]) => [
      `${kind} made on`,
      indices.map((index) => environmentText(DATA.environments[index])).join("; "),
    ]),
  ];
  const list = facts.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]);
  return [make("details", {}, make("summary", {}, "Provenance"), make("dl", {}, list))];
}

let late = [],
  cameFrom = null;

/** Cells of the same solver and data set with fewer and more evaluations. */
function neighbours(cell) {
  const own = cellsOf(cell.dataset)
    .filter((each) => each.solver === cell.solver)
    .sort((a, b) => a.nfe - b.nfe);
  const place = own.indexOf(cell);
  return [own[place - 1], own[place + 1]];
}

function drawCell(cell) {
  const solver = solverOf(cell),
    [fewer, more] = neighbours(cell);
  const go = (to, text) => make("button", { type: "button", disabled: !to, onclick: () => openCell(to.name) }, text);
  late = [];
  const body = [
    scoresPart(cell),
    samplesPart(cell),
    lambdaPart(cell),
    trajectoryPart(cell),
    homePart(cell),
    provenancePart(cell),
  ];
  find("cell").replaceChildren(
    make(
      "header",
      {},
      make(
        "div",
        {},
        make("h2", { id: "cell-title", tabindex: -1 }, swatch(solver, 16), ` ${solver.label}`),
        make(
          "p",
          {},
          `${cell.dataset} · ${many(cell.nfe, "evaluation")} · ${solver.reference ? "reference" : solver.distilled ? "distilled" : "plain"}`,
        ),
      ),
      make(
        "div",
        { class: "buttons" },
        go(fewer, fewer ? `◂ NFE ${fewer.nfe}` : "◂"),
        go(more, more ? `NFE ${more.nfe} ▸` : "▸"),
        make("button", { type: "button", onclick: () => find("cell").close(), "aria-label": "Close" }, "✕"),
      ),
    ),
    make("div", { class: "body" }, body),
  );
  for (const draw of late) draw();
}

function openCell(name) {
  const cell = CELLS.get(name),
    dialog = find("cell");
  if (!dialog.open) cameFrom = document.activeElement;
  state.cell = name;
  writeAddress();
  if (!dialog.open) dialog.showModal();
  drawCell(cell);
  dialog.scrollTop = 0;
  find("cell-title").focus();
}

function closedCell() {
  state.cell = null;
  writeAddress();
  const back = cameFrom?.dataset?.cell
    ? document.querySelector(`#scores [data-cell="${CSS.escape(cameFrom.dataset.cell)}"]`)
    : cameFrom;
  if (back?.isConnected) back.focus();
}
