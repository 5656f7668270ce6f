// What it cost to learn: in which kind of cost, and the table of the chosen number of evaluations.

const costTable = sortable("cost-table", { find: "cost-find", count: "cost-count" });

/** The chosen one of a chart's x axes, and the points that have a place there. */
function onAxis({ axes, lines, ...options }) {
  if (!axes) return { lines, ...options };
  const placed = lines.map((line) => ({
    ...line,
    points: line.points
      .filter((point) => point.at[state.cost] !== null)
      .map((point) => ({ ...point, x: point.at[state.cost] })),
  }));
  return { ...options, x: axes[state.cost], lines: placed.filter((line) => line.points.length) };
}

/** Draw the section anew; it is not shown where nothing was learnt. */
function drawCosts() {
  const section = find("costs");
  if (!section) return;
  const name = `${state.dataset}/${state.metric}/${state.nfe}`;
  section.hidden = !find(`costs/${name}`);
  find("to-costs").hidden = section.hidden;
  if (section.hidden) return;
  fillPart("costs", name);
  fillPart("cost-table", name);
  for (const sentence of section.querySelectorAll("[data-axis]"))
    sentence.hidden = sentence.dataset.axis !== state.cost;
  for (const input of document.querySelectorAll("[name=cost]")) input.checked = input.value === state.cost;
  costTable.take();
}
