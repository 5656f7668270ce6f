// The page's tables: sorted and filtered; that of every solver is also gone through by arrow keys.

/**
 * A table that a template fills in anew and anew, with headings that sort it.
 *
 * id: of the table.
 * find, kind, count: ids of the field with the words to look for and of the count; the name of the choice of kinds.
 * drawn: called after its rows were drawn.
 */
function sortable(id, { find: field, kind: choice, count, drawn = () => {} }) {
  const order = { key: null, falling: false };
  let rows = [];
  const headings = () => [...find(id).tHead.querySelectorAll("[data-sort]")];

  /** Set up the table that has just been filled in. */
  function take() {
    rows = [...find(id).tBodies[0].rows];
    find(id).tHead.addEventListener("click", sort);
    if (!headings().some((button) => button.dataset.sort === order.key)) order.key = null;
    draw();
  }

  function sort(event) {
    const button = event.target.closest("[data-sort]");
    if (!button) return;
    const { sort: key, first } = button.dataset;
    order.falling = order.key === key ? !order.falling : first === "descending";
    order.key = key;
    draw();
  }

  /** The rows as they are sorted and filtered. */
  function draw() {
    const words = find(field).value.toLowerCase().split(/\s+/).filter(Boolean);
    const kind = choice && document.querySelector(`[name=${choice}]:checked`).value;
    const found = rows.filter(
      ({ dataset }) => words.every((word) => dataset.words.includes(word)) && (!kind || dataset.kind === kind),
    );
    const column = headings().findIndex((button) => button.dataset.sort === order.key);
    const cell = (row) => row.cells[column];
    const value = (row) => cell(row).dataset.value ?? cell(row).firstElementChild?.dataset.value;
    const named = column === 0 || rows.every((row) => column < 0 || cell(row).matches(".word"));
    const rising = (a, b) => {
      if (named) return cell(a).textContent.localeCompare(cell(b).textContent, "en", { numeric: true });
      return value(a) - value(b);
    };
    const known = column >= 0 && !named ? found.filter((row) => value(row) !== undefined) : [...found];
    if (column >= 0) known.sort((a, b) => (order.falling ? -1 : 1) * rising(a, b));
    const none = make("tr", {}, make("td", { colspan: headings().length, class: "empty" }, "No solver matches."));
    const shown = [...known, ...found.filter((row) => !known.includes(row))];
    find(id).tBodies[0].replaceChildren(...(shown.length ? shown : [none]));
    find(count).textContent = `${shown.length} of ${rows.length} solver${rows.length === 1 ? "" : "s"}`;
    for (const button of headings()) {
      const falls = button.dataset.sort === order.key ? order.falling : null;
      button.querySelector(".arrow").textContent = falls === null ? "" : falls ? "▼" : "▲";
      button.parentElement.ariaSort = falls === null ? null : falls ? "descending" : "ascending";
    }
    drawn();
  }

  find(field)?.addEventListener("input", draw);
  if (choice) document.querySelector(`[name=${choice}]`).closest("fieldset").addEventListener("change", draw);
  return { take, headings, rows: () => rows };
}

const scoreTable = sortable("scores", {
  find: "find",
  kind: "kind",
  count: "count",
  drawn: () => {
    drawColumn();
    stopAt(find("scores").querySelector("[data-cell]"));
  },
});

/** Set up the table of every solver that has just been filled in. */
function takeTable() {
  find("scores").addEventListener("focusin", (event) => event.target.dataset.cell && stopAt(event.target));
  find("scores").addEventListener("keydown", roam);
  scoreTable.take();
}

/** Mark the column of the chosen number of evaluations. */
function drawColumn() {
  const chosen = scoreTable.headings().findIndex((button) => button.dataset.sort === String(state.nfe));
  for (const row of [...find("scores").tHead.rows, ...scoreTable.rows()])
    [...row.cells].forEach((cell, i) => cell.classList.toggle("chosen", i === chosen));
}

/** Make this the only button of the table that the Tab key stops at. */
function stopAt(button) {
  for (const other of find("scores").querySelectorAll('[data-cell][tabindex="0"]')) other.tabIndex = -1;
  if (button) button.tabIndex = 0;
}

/** Arrow keys go from cell to cell. */
function roam(event) {
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (!step || !event.target.dataset.cell) return;
  event.preventDefault();
  const { parentElement: own } = event.target;
  const line = event.key === "ArrowLeft" || event.key === "ArrowRight" ? [...own.parentElement.cells] : [];
  if (!line.length) for (const row of find("scores").tBodies[0].rows) line.push(row.cells[own.cellIndex]);
  const along = line.map((cell) => cell.querySelector("[data-cell]")).filter(Boolean);
  along[along.indexOf(event.target) + step]?.focus();
}
