// The page as a whole: what is chosen, its address, the theme, the beginning.

const state = { dataset: find("dataset").value, metric: find("metric").value, nfe: null, cell: null, cost: "work" };
const PARTS = ["budget", "curve", "table", "gains", "trust"];

/** What the address says: `#dataset=…&metric=…&nfe=…&cost=…&cell=…`; the address of a section says nothing. */
function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  const has = (id, value) => [...find(id).options].some((option) => option.value === value);
  const wanted = said.get("cell")?.split("/")[0] ?? said.get("dataset");
  if (has("dataset", wanted)) state.dataset = wanted;
  if (has("metric", said.get("metric"))) state.metric = said.get("metric");
  if (said.has("nfe")) state.nfe = Number(said.get("nfe"));
  if (["work", "seconds"].includes(said.get("cost"))) state.cost = said.get("cost");
  state.cell = said.get("cell");
}

function writeAddress() {
  const said = new URLSearchParams({ dataset: state.dataset, metric: state.metric, nfe: state.nfe });
  if (state.cost !== "work") said.set("cost", state.cost);
  if (state.cell) said.set("cell", state.cell);
  history.replaceState(null, "", `#${decodeURIComponent(said)}`);
}

function drawAll() {
  const metric = find("metric");
  find("dataset").value = state.dataset;
  for (const option of metric.options) option.hidden = option.disabled = !find(`table/${state.dataset}/${option.value}`);
  const offered = [...metric.options].filter((option) => !option.disabled);
  const { value, dataset } = offered.find((option) => option.value === state.metric) ?? offered[0];
  metric.value = state.metric = value;
  find("meaning").textContent = dataset.meaning;
  find("meaning").classList.toggle("warning", "warning" in dataset);
  for (const part of PARTS) fillPart(part, `${state.dataset}/${state.metric}`);
  const pills = find("cost-budget")?.querySelector(".pills");
  if (pills) pills.innerHTML = find("budget").innerHTML.replaceAll('name="nfe"', 'name="cost-nfe"');
  const nfes = [...document.querySelectorAll("[name=nfe]")].map((input) => Number(input.value));
  if (!nfes.includes(state.nfe)) {
    const wanted = state.nfe || 10;
    state.nfe = nfes.filter((nfe) => nfe <= wanted).pop() ?? nfes[0] ?? null;
  }
  drawChoice();
  takeTable();
}

function drawChoice() {
  for (const input of document.querySelectorAll("[name=nfe], [name=cost-nfe]"))
    input.checked = Number(input.value) === state.nfe;
  if (!fillPart("choice", `${state.dataset}/${state.metric}/${state.nfe}`))
    find("choice").textContent = "No score was measured.";
  drawCosts();
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
    // A browser may store nothing for local files; the theme is then chosen anew.
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

for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
for (const id of ["dataset", "metric"])
  find(id).addEventListener("change", (event) => {
    state[id] = event.target.value;
    drawAll();
    writeAddress();
  });
for (const id of ["budget", "cost-budget"])
  find(id)?.addEventListener("change", (event) => {
    state.nfe = Number(event.target.value);
    writeAddress();
    drawChoice();
    drawColumn();
  });
find("cost-kinds")?.addEventListener("change", (event) => {
  state.cost = event.target.value;
  writeAddress();
  drawCosts();
});

readAddress();
drawAll();

/** What has to wait until the cells and pictures at the end of the page are read. */
function whenRead() {
  fillSamples(document);
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
