// By how much distillation helps: every distilled cell against its own plain solver.

const VERDICTS = { distilled: "better", plain: "worse", tied: "cannot be told" };

function drawGains() {
  const kind = DATA.metrics[state.metric],
    gains = dataset().gains[state.metric] || [];
  const count = (name) => gains.filter((gain) => gain.better === name).length;
  const answer = find("gains-answer"),
    box = find("gains-curve");
  if (!gains.length) {
    answer.textContent = "No distilled solver was measured beside its plain one.";
    box.replaceChildren();
    find("gains-table").replaceChildren();
    find("gains-note").textContent = "";
    return;
  }
  const whole = gains.filter((gain) => gain.factor !== null).sort((a, b) => a.factor - b.factor);
  const named = (gain) => `${short(gain.factor)} times (${titleOf(CELLS.get(gain.distilled))})`;
  const range = whole.length > 1 ? ` From ${named(whole[0])} to ${named(whole[whole.length - 1])}.` : "";
  const parts = [
    ["distilled", "improves"],
    ["plain", "worsens"],
    ["tied", "makes no difference that can be told in"],
  ].filter(([name]) => count(name));
  answer.textContent = `Of ${many(gains.length, "pair")} of a solver and its distilled version, distillation ${alternatives(parts.map(([name, verb]) => `${verb} ${count(name)}`))}.${range}`;
  const lines = new Map();
  for (const gain of gains) {
    const cell = CELLS.get(gain.distilled);
    if (!lines.has(cell.solver))
      lines.set(cell.solver, { name: solverOf(cell).label, solver: solverOf(cell), points: [] });
    const text = `NFE ${cell.nfe}: ${factorText(gain)} times better than ${solverOf(CELLS.get(gain.plain)).label}`;
    lines
      .get(cell.solver)
      .points.push({ x: cell.nfe, y: gain.factor ?? NaN, error: gain.error || 0, cell: cell.name, text });
  }
  if (whole.length)
    chart(box, {
      lines: [...lines.values()],
      levels: [{ y: 1, text: "no gain" }],
      open: openCell,
      height: 320,
      x: nfeAxis(gains.map((gain) => CELLS.get(gain.distilled))),
      y: { label: `${kind.name}: times better than plain`, log: true },
      label: `How many times better distilled solvers are than plain ones in ${kind.name} on ${state.dataset}`,
    });
  else box.replaceChildren();
  find("gains-table").replaceChildren(
    make(
      "details",
      {},
      make("summary", {}, "The pairs in numbers"),
      sheet(
        {},
        ["distilled solver", "NFE", "plain", "distilled", "times better", "so distillation is"],
        gains.map((gain) => {
          const [plain, distilled] = [CELLS.get(gain.plain), CELLS.get(gain.distilled)];
          return make(
            "tr",
            {},
            make(
              "th",
              { scope: "row" },
              make("span", { class: "who" }, swatch(solverOf(distilled)), make("span", {}, solverOf(distilled).label)),
            ),
            make("td", {}, String(distilled.nfe)),
            make("td", {}, cellButton(plain, textOf(plain))),
            make("td", {}, cellButton(distilled, textOf(distilled))),
            make("td", {}, factorText(gain)),
            make("td", { class: `verdict ${gain.better}` }, VERDICTS[gain.better]),
          );
        }),
      ),
    ),
  );
  find("gains-note").textContent =
    `The same solver, options, grid, evaluations and noise, without and with the fitted λ. Times better: ${kind.lower ? "plain / distilled" : "distilled / plain"}, its ± ${dataset().seeds > 1 ? "the standard deviation over seeds" : "from both errors"}. Better and worse are said where it is at least 95 % sure${dataset().seeds > 1 ? ", seed by seed" : ""}.`;
}

const factorText = (gain) =>
  gain.factor === null ? "–" : gain.error === null ? short(gain.factor) : scoredFactor(gain);

function scoredFactor({ factor, error }) {
  const digits = Math.min(Math.max(1 - Math.floor(Math.log10(error || 1)), 0), 2);
  return `${fixed(factor, digits)} ± ${fixed(error, digits)}`;
}
