// The page as a whole: what is chosen, the theme, the beginning.

function drawAll() {
  const has = Object.keys(DATA.metrics).filter((key) => dataset().choices[key]);
  if (!has.includes(state.metric)) state.metric = has[0] ?? state.metric;
  find("dataset").value = state.dataset;
  find("metric").replaceChildren(
    ...has.map((key) => make("option", { value: key, selected: key === state.metric }, DATA.metrics[key].name)),
  );
  const kind = DATA.metrics[state.metric];
  find("meaning").textContent = kind.description;
  find("meaning").classList.toggle("warning", Boolean(kind.warning));
  if (typeof order.key === "number" && !nfesNow().includes(order.key)) order.key = null;
  drawBudget();
  drawChoice();
  drawCurve();
  drawTable();
  drawGains();
  drawTrust();
}

const THEMES = ["auto", "light", "dark"];

function setTheme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  const icons = { auto: "◐", light: "☀", dark: "☾" };
  find("theme").textContent = `${icons[name]} ${name}`;
  find("theme").setAttribute("aria-label", `Theme: ${name}. Change`);
  try {
    localStorage.setItem("theme", name);
  } catch {
    // A browser may keep nothing for files; the theme is then chosen again.
  }
}

function savedTheme() {
  try {
    const saved = localStorage.getItem("theme");
    return THEMES.includes(saved) ? saved : "auto";
  } catch {
    return "auto";
  }
}

let theme = savedTheme();
setTheme(theme);
find("theme").addEventListener("click", () => setTheme((theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length])));

find("about").textContent =
  `Few-step diffusion samplers, plain and distilled: ${many(Object.values(DATA.solvers).filter((solver) => !solver.reference).length, "solver")} on ${many(DATA.datasets.length, "model")}, ${many(DATA.cells.length, "cell")}.`;
find("dataset").replaceChildren(...DATA.datasets.map((own) => make("option", { value: own.id }, own.id)));
for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
for (const id of ["dataset", "metric"])
  find(id).addEventListener("change", (event) => {
    state[id] = event.target.value;
    drawAll();
    writeAddress();
  });
find("find").addEventListener("input", drawTable);
find("kinds").addEventListener("change", drawTable);
find("cell").addEventListener("close", closedCell);
find("cell").addEventListener("click", (event) => event.target === find("cell") && find("cell").close());

readAddress();
drawAll();
drawMade();

/** What waits for the pictures at the end of the page. */
function whenRead() {
  fillStrips();
  if (state.cell) openCell(state.cell);
}
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", whenRead);
else whenRead();
window.addEventListener("hashchange", () => {
  readAddress();
  drawAll();
  if (state.cell) openCell(state.cell);
  else if (find("cell").open) find("cell").close();
});
