// Every solver: a row a solver, a column a number of evaluations; sorted, filtered, and a cell opened from it.

const order = { key: null, falling: false };

const nfesNow = () => [...new Set(measured().map((cell) => cell.nfe))].sort((a, b) => a - b);

/** Rows of the table: { id, solver, cells: NFE -> cell }, as they are sorted and filtered. */
function rowsNow() {
  const rows = new Map();
  for (const cell of measured()) {
    if (!rows.has(cell.solver)) rows.set(cell.solver, { id: cell.solver, solver: solverOf(cell), cells: new Map() });
    rows.get(cell.solver).cells.set(cell.nfe, cell);
  }
  const words = find("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const kind = document.querySelector("[name=kind]:checked").value;
  const found = [...rows.values()].filter(({ id, solver }) => {
    const text = `${id} ${solver.label} ${solver.method} ${solver.distilled ? "distilled" : "plain"}`.toLowerCase();
    return words.every((word) => text.includes(word)) && (!kind || (kind === "distilled") === solver.distilled);
  });
  const value = (row) => {
    if (order.key === "solver") return row.solver.label;
    const score = row.cells.get(order.key)?.scores[state.metric];
    return score && score[0] !== null ? score[0] : null;
  };
  if (order.key !== null)
    found.sort((a, b) => {
      const [one, other] = [value(a), value(b)];
      if (one === null || other === null) return (one === null) - (other === null);
      const rising = typeof one === "string" ? one.localeCompare(other, "en", { numeric: true }) : one - other;
      return order.falling ? -rising : rising;
    });
  return { found, all: rows.size };
}

function heading(key, text, extra) {
  const sorted = order.key === key;
  const name = sorted ? (order.falling ? "descending" : "ascending") : null;
  return make(
    "th",
    { scope: "col", "aria-sort": name, class: key === state.nfe ? "chosen" : null },
    make(
      "button",
      {
        type: "button",
        class: "sort",
        "data-sort": key,
        onclick: () => {
          const better = key === "solver" || DATA.metrics[state.metric].lower;
          order.falling = order.key === key ? !order.falling : !better;
          order.key = key;
          drawTable();
          document.querySelector(`[data-sort="${key}"]`).focus();
        },
      },
      text,
      make("span", { "aria-hidden": "true", class: "arrow" }, sorted ? (order.falling ? "▼" : "▲") : ""),
    ),
    extra,
  );
}

/** How strongly a cell is tinted, 0 to 1: the best of the table most, by rank of magnitude. */
function tints(cells) {
  const kind = DATA.metrics[state.metric];
  const values = cells.map((cell) => cell.scores[state.metric]?.[0] ?? null);
  const known = values.filter((value) => value !== null);
  const at = known.every((value) => value > 0) ? Math.log : (value) => value;
  const [low, high] = [Math.min(...known.map(at)), Math.max(...known.map(at))];
  return new Map(
    cells.map((cell, i) => {
      if (values[i] === null || high - low < 1e-12) return [cell.name, 0];
      const share = (at(values[i]) - low) / (high - low);
      return [cell.name, kind.lower ? 1 - share : share];
    }),
  );
}

function drawTable() {
  const nfes = nfesNow(),
    { found, all } = rowsNow(),
    tint = tints(measured());
  const marks = dataset().marks[state.metric] || { best: [], second: [] };
  const marked = new Map(Object.entries(marks).flatMap(([mark, names]) => names.map((name) => [name, mark])));
  const words = { best: ", among the best of its column", second: ", among the second best of its column" };
  const label = DATA.metrics[state.metric].name;
  const body = found.map((row) =>
    make(
      "tr",
      {},
      make(
        "th",
        { scope: "row" },
        make("span", { class: "who" }, swatch(row.solver), make("span", {}, row.solver.label)),
      ),
      nfes.map((nfe) => {
        const cell = row.cells.get(nfe);
        if (!cell)
          return make(
            "td",
            { class: nfe === state.nfe ? "empty chosen" : "empty" },
            make("span", { "aria-label": "not measured" }, "–"),
          );
        const published =
          cell.published && state.metric === "fid"
            ? make(
                "span",
                { class: "published", title: "published" },
                ` [${[...new Set(cell.published.map((each) => each.fid))].join(", ")}]`,
              )
            : null;
        const button = make(
          "button",
          {
            type: "button",
            "data-cell": cell.name,
            tabindex: -1,
            class: `value ${marked.get(cell.name) || ""}`,
            "aria-label": `${titleOf(cell)}: ${textOf(cell)}${words[marked.get(cell.name)] || ""}`,
            onclick: () => openCell(cell.name),
          },
          textOf(cell),
          published,
        );
        button.style.setProperty("--tint", `${Math.round(tint.get(cell.name) * 30)}%`);
        return make("td", { class: nfe === state.nfe ? "chosen" : null }, button);
      }),
    ),
  );
  const levels = [CELLS.get(dataset().reference)]
    .filter((cell) => cell?.scores[state.metric])
    .map((cell) =>
      make(
        "tr",
        { class: "level" },
        make("th", { scope: "row" }, cellButton(cell, titleOf(cell))),
        make("td", { colspan: nfes.length }, textOf(cell)),
      ),
    );
  const halves = dataset().halves?.scores[state.metric];
  if (halves)
    levels.push(
      make(
        "tr",
        { class: "level" },
        make("th", { scope: "row" }, halvesTitle()),
        make("td", { colspan: nfes.length }, scored(halves, state.metric, dataset().decimals[state.metric])),
      ),
    );
  find("table").replaceChildren(
    make(
      "table",
      { id: "scores" },
      make(
        "caption",
        { class: "hidden" },
        `${label} of every solver on ${state.dataset}; rows are solvers, columns network evaluations`,
      ),
      make(
        "thead",
        {},
        make(
          "tr",
          {},
          heading("solver", "solver"),
          nfes.map((nfe) => heading(nfe, `NFE ${nfe}`)),
        ),
      ),
      make(
        "tbody",
        {},
        body.length
          ? body
          : make("tr", {}, make("td", { colspan: nfes.length + 1, class: "empty" }, "No solver is called so.")),
      ),
      make("tfoot", {}, levels),
    ),
  );
  find("count").textContent = `${found.length} of ${many(all, "solver")}`;
  const kinds = new Set(
    measured()
      .map((cell) => cell.scores[state.metric]?.[2])
      .filter(Boolean),
  );
  find("table-note").textContent =
    `${label}. ${DATA.legend} ± is ${errorMeaning(kinds)}. A click or Enter opens a cell; arrow keys go from cell to cell.${state.metric === "fid" && measured().some((cell) => cell.published) ? " In brackets: published for exactly this cell." : ""}`;
  roam(find("scores"));
}

const errorMeaning = (kinds) =>
  kinds.size
    ? alternatives(
        [...kinds].map((kind) => DATA.error_kinds[kind] || kind),
        "or",
      )
    : "unknown";

/** Arrow keys in a table whose cells hold a button each; one of them is in the order of the Tab key. */
function roam(table) {
  const buttons = [...table.querySelectorAll("[data-cell]")];
  const first = buttons.find((button) => button.dataset.cell === state.cell) || buttons[0];
  if (first) first.tabIndex = 0;
  const place = (button) => [button.closest("tr").rowIndex, button.closest("td").cellIndex];
  table.addEventListener("focusin", (event) => {
    if (!event.target.dataset.cell) return;
    for (const button of buttons) button.tabIndex = button === event.target ? 0 : -1;
  });
  table.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!step || !event.target.dataset.cell) return;
    event.preventDefault();
    const [row, column] = place(event.target);
    const line = step[0] ? 1 : 0;
    const along = buttons.filter((button) => place(button)[1 - line] === [row, column][1 - line]);
    const next = along[along.indexOf(event.target) + step[0] + step[1]];
    if (next) next.focus();
  });
}
