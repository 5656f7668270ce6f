// One cell in a dialog.

let cameFrom = null;

function openCell(name) {
  const dialog = find("cell");
  if (!find(`cell/${name}`)) return void (state.cell = null);
  if (!dialog.open) cameFrom = document.activeElement;
  state.cell = name;
  writeAddress();
  if (!dialog.open) dialog.showModal(); // before it is filled: a chart is as wide as its place
  fill(dialog, `cell/${name}`);
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

function copy(button) {
  const said = (text) => () => (button.nextElementSibling.textContent = text);
  navigator.clipboard
    .writeText(button.previousElementSibling.textContent)
    .then(said("Copied."), said("Select it and copy."));
}

function saveConfig(name) {
  const text = JSON.stringify(JSON.parse(find("config").textContent), null, 1);
  make("a", { href: `data:application/json;charset=utf-8,${encodeURIComponent(text)}`, download: name }).click();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (event.target === find("cell") || button?.matches("[data-close]")) find("cell").close();
  if (!button) return;
  const { cell, open, save } = button.dataset;
  if (cell || open) openCell(cell || open);
  if (save) saveConfig(save);
  if (button.matches("[data-copy]")) copy(button);
});
find("cell").addEventListener("close", closedCell);
