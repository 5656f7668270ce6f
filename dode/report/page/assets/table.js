// The table of every solver: sorted, filtered, and gone through by arrow keys.

const order = { key: null, falling: false };
let rows = [];

const headings = () => [...find("scores").tHead.querySelectorAll("[data-sort]")];

/** Set up the table that has just been filled in. */
function takeTable() {
  rows = [...find("scores").tBodies[0].rows];
  const table = find("scores");
  table.tHead.addEventListener("click", sort);
  table.addEventListener("focusin", (event) => event.target.dataset.cell && stopAt(event.target));
  table.addEventListener("keydown", roam);
  if (!headings().some((button) => button.dataset.sort === order.key)) order.key = null;
  drawTable();
}

function sort(event) {
  const button = event.target.closest("[data-sort]");
  if (!button) return;
  const { sort: key, first } = button.dataset;
  order.falling = order.key === key ? !order.falling : first === "descending";
  order.key = key;
  drawTable();
}

/** The rows as they are sorted and filtered, and the column of the chosen number of evaluations. */
function drawTable() {
  const words = find("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const kind = document.querySelector("[name=kind]:checked").value;
  const found = rows.filter(
    ({ dataset }) => words.every((word) => dataset.words.includes(word)) && (!kind || dataset.kind === kind),
  );
  const column = headings().findIndex((button) => button.dataset.sort === order.key);
  const value = (row) => row.cells[column].firstElementChild.dataset.value;
  const rising = (a, b) => {
    if (column === 0) return a.textContent.localeCompare(b.textContent, "en", { numeric: true });
    return value(a) - value(b);
  };
  const known = column > 0 ? found.filter((row) => value(row) !== undefined) : found;
  if (column >= 0) known.sort((a, b) => (order.falling ? -1 : 1) * rising(a, b));
  const none = make("tr", {}, make("td", { colspan: headings().length, class: "empty" }, "No solver matches."));
  const shown = [...known, ...found.filter((row) => !known.includes(row))];
  find("scores").tBodies[0].replaceChildren(...(shown.length ? shown : [none]));
  find("count").textContent = `${shown.length} of ${rows.length} solver${rows.length === 1 ? "" : "s"}`;
  for (const button of headings()) {
    const falls = button.dataset.sort === order.key ? order.falling : null;
    button.querySelector(".arrow").textContent = falls === null ? "" : falls ? "▼" : "▲";
    button.parentElement.ariaSort = falls === null ? null : falls ? "descending" : "ascending";
  }
  drawColumn();
  stopAt(find("scores").querySelector("[data-cell]"));
}

/** Mark the column of the chosen number of evaluations. */
function drawColumn() {
  const chosen = headings().findIndex((button) => button.dataset.sort === String(state.nfe));
  for (const row of [...find("scores").tHead.rows, ...rows])
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
