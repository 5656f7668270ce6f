// Which solver: the answer for a number of evaluations, and scores against evaluations.

const choicesNow = () => dataset().choices[state.metric] || [];

/** The reference and the real halves, by the chosen metric, as levels of a chart. */
function levelsNow(scale) {
  const reference = CELLS.get(dataset().reference);
  const own = reference?.scores[state.metric];
  const halves = dataset().halves?.scores[state.metric];
  const levels = [];
  if (own && own[0] !== null)
    levels.push({ y: own[0] * scale, text: `${solverOf(reference).label} (NFE ${reference.nfe})` });
  if (halves && halves[0] !== null) levels.push({ y: halves[0] * scale, text: halvesTitle() });
  return levels;
}

function drawBudget() {
  const nfes = choicesNow().map((row) => row.nfe);
  if (!nfes.includes(state.nfe)) {
    const wanted = state.nfe || 10;
    state.nfe = nfes.filter((nfe) => nfe <= wanted).pop() ?? nfes[0] ?? null;
  }
  find("budget").replaceChildren(
    ...nfes.map((nfe) =>
      make(
        "label",
        {},
        make("input", {
          type: "radio",
          name: "nfe",
          value: nfe,
          checked: nfe === state.nfe,
          onchange: () => {
            state.nfe = nfe;
            writeAddress();
            drawChoice();
            drawTable();
          },
        }),
        make("span", {}, String(nfe)),
      ),
    ),
  );
}

/** A cell as a button that opens it. */
function cellButton(cell, text) {
  return make(
    "button",
    { type: "button", class: "link", onclick: () => openCell(cell.name) },
    text || `${solverOf(cell).label} ${textOf(cell)}`,
  );
}

function card(kind, row) {
  const found = row[kind],
    wins = row.take === kind;
  if (!found)
    return make(
      "div",
      { class: "choice none" },
      make("h3", {}, `Best ${kind} solver`),
      make("p", {}, "None was measured at so few evaluations."),
    );
  const cell = CELLS.get(found.best),
    solver = solverOf(cell);
  const ties = found.ties.map((name) => cellButton(CELLS.get(name)));
  const commas = ties.flatMap((tie, i) => (i ? [", ", tie] : [tie]));
  return make(
    "div",
    { class: `choice ${wins ? "wins" : ""}` },
    make("h3", {}, `Best ${kind} solver`, wins && row.better ? make("span", { class: "badge" }, "take this") : null),
    make(
      "p",
      { class: "name" },
      swatch(solver, 16),
      make("button", { type: "button", class: "link", onclick: () => openCell(cell.name) }, solver.label),
    ),
    make(
      "p",
      { class: "score" },
      make("b", {}, textOf(cell)),
      ` ${metricName()}`,
      cell.nfe < state.nfe ? ` with only ${cell.nfe} evaluations` : "",
    ),
    make("div", { class: "strip", "data-strip": cell.name }),
    make(
      "p",
      { class: "note" },
      cell.scores[state.metric][1] === null
        ? "Its error is not known, so nothing can be said of ties."
        : ties.length
          ? ["Cannot be told from it: ", ...commas, "."]
          : found.worse
            ? `${found.worse === 1 ? `The other ${kind} solver` : `Each of the ${found.worse} other ${kind} solvers`} is worse, at 95 % confidence.`
            : `No other ${kind} solver has a score here.`,
    ),
  );
}

function drawChoice() {
  const row = choicesNow().find((each) => each.nfe === state.nfe);
  if (!row) return find("choice").replaceChildren(make("p", {}, "Nothing was measured."));
  const name = (kind) => solverOf(CELLS.get(row[kind].best)).label;
  const answers = {
    distilled: () => ["Take ", make("b", {}, name("distilled")), "."],
    plain: () => ["Take ", make("b", {}, name("plain")), ": it needs no fit, and no distilled solver is better."],
    tied: () => [
      "Take ",
      make("b", {}, name("plain")),
      ": it needs no fit, and the best distilled solver, ",
      make("b", {}, name("distilled")),
      ", cannot be told from it",
      dataset().seeds === 2 ? ", as little can be with two seeds." : ".",
    ],
  };
  const text = row.better
    ? answers[row.better]()
    : [
        "Take ",
        make("b", {}, name(row.take)),
        `; no ${row.take === "plain" ? "distilled" : "plain"} solver was measured here.`,
      ];
  if (DATA.metrics[state.metric].warning)
    text.push(make("em", {}, ` By ${metricName()} alone; look at FID before you decide.`));
  find("choice").replaceChildren(
    make("p", { class: "lead" }, `At most ${many(state.nfe, "evaluation")}: `, ...text),
    make(
      "div",
      { class: "choices" },
      card("distilled", row),
      card("plain", row),
    ),
  );
  fillStrips();
  return undefined;
}

/** The first samples of the cells that are named by `data-strip`, once the pictures are read. */
function fillStrips() {
  for (const box of document.querySelectorAll("[data-strip]")) {
    const found = picturesOf(box.dataset.strip)?.samples;
    box.hidden = !found;
    if (found)
      box.replaceChildren(
        tiles(found, Math.min(found.count, 8), `Samples of ${titleOf(CELLS.get(box.dataset.strip))}`),
      );
  }
}

/** Values of one axis that differ much stand on a logarithmic one. */
function nfeAxis(cells) {
  const nfes = [...new Set(cells.map((cell) => cell.nfe))].sort((a, b) => a - b);
  return {
    label: "NFE (network evaluations an image)",
    log: nfes[nfes.length - 1] > 8 * nfes[0],
    ticks: nfes,
    format: String,
  };
}

function drawCurve() {
  const kind = DATA.metrics[state.metric],
    cells = measured();
  const lines = [...new Set(cells.map((cell) => cell.solver))].map((id) => ({
    name: DATA.solvers[id].label,
    solver: DATA.solvers[id],
    points: cells
      .filter((cell) => cell.solver === id && cell.scores[state.metric])
      .map((cell) => {
        const [value, error] = cell.scores[state.metric];
        return {
          x: cell.nfe,
          y: value === null ? NaN : value * kind.scale,
          error: error === null ? 0 : error * kind.scale,
          cell: cell.name,
          text: `NFE ${cell.nfe}: ${textOf(cell)}`,
        };
      }),
  }));
  chart(find("curve"), {
    lines,
    levels: levelsNow(kind.scale),
    open: openCell,
    height: 380,
    x: nfeAxis(cells),
    y: {
      label: kind.axis,
      log: true,
    },
    label: `${kind.name} against network evaluations on ${state.dataset}; the same numbers are in the table below`,
  });
}
