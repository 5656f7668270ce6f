// What was fitted in a cell, and its way from noise to image.

const THETA = (sigma) => Math.atan(sigma);
const SIGMAS = {
  label: "noise level σ, from noise to image",
  ticks: [0, 0.1, 0.3, 0.6, 1, 2, 5, 80],
  place: (sigma) => -THETA(sigma),
  room: 0.03,
};

function trajectoryPart(cell) {
  const own = picturesOf(cell.name)?.trajectory,
    fine = picturesOf(DATASETS.get(cell.dataset).reference)?.trajectory;
  if (!own) return [];
  const solver = solverOf(cell),
    color = solver.color ? { solver, dashed: false } : { class: "plainink" };
  const [errors, ways] = [make("div", { class: "chart" }), make("div", { class: "chart" })];
  const at = (found, values, word) =>
    found.sigmas.map((sigma, i) => ({
      x: sigma,
      y: values[i] ?? NaN,
      text: `σ ${short(sigma)}: ${word} ${short(values[i])}`,
    }));
  const parts = [make("h3", {}, "The way from noise to image")];
  if (!solver.reference) {
    parts.push(
      make("figure", {}, errors, make("figcaption", {}, "Distance to the fine-step solution after every step.")),
    );
    late.push(() =>
      chart(errors, {
        lines: [{ name: solver.label, ...color, points: at(own, own.error, "error").filter((each) => each.y > 0) }],
        legend: false,
        height: 240,
        x: SIGMAS,
        y: { label: "RMS error", log: true },
        label: "Distance to the fine-step solution",
      }),
    );
  }
  const lines = own.pixels.map((way, i) => ({
    name: `${solver.label}, pixel ${i + 1}`,
    ...color,
    points: at(own, way, "x"),
  }));
  if (fine && fine !== own)
    lines.unshift(
      ...fine.pixels.map((way, i) => ({
        name: `fine steps, pixel ${i + 1}`,
        class: "fine",
        marks: false,
        points: at(fine, way, "x"),
      })),
    );
  parts.push(
    make(
      "figure",
      {},
      ways,
      make(
        "figcaption",
        {},
        `Two pixels of the first image, the brightest and the darkest: ${solver.reference ? "" : "this solver's steps, and in grey "}the fine-step solution.`,
      ),
    ),
  );
  late.push(() =>
    chart(ways, {
      lines,
      legend: false,
      height: 240,
      x: SIGMAS,
      y: { label: "x / √(1 + σ²)" },
      label: "Two pixels on their way",
    }),
  );
  return [parts[0], make("div", { class: "pair" }, parts.slice(1))];
}

function lambdaPart(cell) {
  const found = cell.fit;
  if (!found?.lambdas) return [];
  const solver = solverOf(cell),
    count = Math.max(...found.lambdas.map((row) => row.length));
  const evaluations = found.lambdas.map((_, k) => k),
    residuals = make("div", { class: "chart" });
  const direction = (i) => (count > 1 ? `λ, direction ${i + 1}` : "λ");
  const axis = { label: "evaluation k (from 0)", ticks: evaluations, format: String };
  const figures = Array.from({ length: count }, (_, i) => {
    const box = make("div", { class: "chart" }),
      name = direction(i);
    const points = found.lambdas.map((row, k) => ({
      x: k,
      y: row[i] ?? NaN,
      text: `evaluation ${k}: ${short(row[i])}`,
    }));
    late.push(() =>
      chart(box, {
        lines: [{ name, solver, points }],
        legend: false,
        height: 240,
        x: axis,
        y: { label: name },
        levels: [{ y: 0, text: "" }],
        label: "Fitted coefficients",
      }),
    );
    return make("figure", {}, box);
  });
  if (found.rms_before) {
    const stage = (name, values, dashed) => ({
      name,
      solver: { ...solver, distilled: !dashed },
      dashed,
      points: values.map((value, k) => ({
        x: k,
        y: value > 0 ? value : NaN,
        text: `evaluation ${k}: ${short(value)}`,
      })),
    });
    late.push(() =>
      chart(residuals, {
        lines: [stage("before", found.rms_before, true), stage("after", found.rms_after, false)],
        height: 240,
        x: axis,
        y: { label: "RMS to the teacher", log: true },
        label: "Distance to the teacher on the fitting images",
      }),
    );
    figures.push(
      make(
        "figure",
        {},
        residuals,
        make("figcaption", {}, "Distance to the teacher on the fitting images, before and after the correction."),
      ),
    );
  }
  const table = make(
    "details",
    {},
    make("summary", {}, "λ in numbers"),
    make(
      "div",
      { class: "wide" },
      sheet(
        {},
        ["k", ...Array.from({ length: count }, (_, i) => direction(i))],
        found.lambdas.map((row, k) =>
          make(
            "tr",
            {},
            make("th", { scope: "row" }, String(k)),
            row.map((value) => make("td", {}, fixed(value, 6))),
          ),
        ),
      ),
    ),
  );
  return [
    make("h3", {}, "What was fitted"),
    make(
      "p",
      { class: "note" },
      `${many(found.lambdas.length * count, "number")}: all that distillation adds to the solver.`,
    ),
    make("div", { class: "pair" }, figures),
    table,
  ];
}
