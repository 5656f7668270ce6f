// Can I believe it: what a reader should know of the numbers.

const PUBLISHED_IMAGES = 50000;

function point(mark, title, ...text) {
  const words = { good: "fine", mind: "mind", info: "note" };
  return make(
    "li",
    { class: mark },
    make("span", { class: "mark-word" }, words[mark]),
    make("div", {}, make("h3", {}, title), make("p", {}, ...text)),
  );
}

function drawTrust() {
  const own = dataset(),
    cells = cellsOf(own.id),
    solvers = measured();
  const reference = CELLS.get(own.reference),
    digits = own.decimals[state.metric];
  const kinds = new Set(solvers.map((cell) => cell.scores[state.metric]?.[2]).filter(Boolean));
  const missing = solvers.filter((cell) => cell.scores[state.metric] && cell.scores[state.metric][1] === null).length;
  const kind = DATA.metrics[state.metric],
    level = reference?.scores[state.metric];
  const points = [];
  points.push(
    point(
      own.images >= PUBLISHED_IMAGES ? "good" : "mind",
      `${many(own.images, "image")}${own.seeds > 1 ? ` of each of ${own.seeds} seeds` : ""}`,
      own.images >= PUBLISHED_IMAGES
        ? "As many as published FIDs are of."
        : `Published FIDs are of ${PUBLISHED_IMAGES.toLocaleString("en")}. ${kind.count}`,
    ),
  );
  points.push(
    point(
      own.seeds > 2 ? "good" : "mind",
      own.seeds > 1 ? "The error is a spread that was measured" : "One seed",
      `± is ${errorMeaning(kinds)}. `,
      own.seeds > 1
        ? `With ${own.seeds} seeds it is known to about ${Math.round(100 / Math.sqrt(2 * (own.seeds - 1)))} %${own.seeds === 2 ? ", so that little can be told apart: take three or more" : ""}. `
        : "",
      own.seeds > 1
        ? "All solvers have the same noise and the same real images, so they are compared seed by seed: one is called better where Student's paired test is 95 % sure, and tied otherwise. Intervals that overlap may therefore still differ."
        : "One solver is called better where it is 95 % sure with both errors, and tied otherwise.",
      " Of twenty differences that are none, one is named all the same.",
      missing ? ` ${many(missing, "cell")} ${missing === 1 ? "has" : "have"} no error.` : "",
    ),
  );
  const biased = cells.filter((cell) => cell.biased?.includes("generated")),
    fewReal = cells.some((cell) => cell.biased?.includes("real"));
  if (fewReal)
    points.push(
      point(
        "mind",
        "No more real images than features",
        `FID is biased. ${DATA.metrics.fid.bias.real}`,
      ),
    );
  points.push(
    biased.length
      ? point(
          "mind",
          "FID is biased here",
          `In ${many(biased.length, "cell")} of ${cells.length}. ${DATA.metrics.fid.bias.generated}`,
        )
      : point("good", "More generated images than features", fewReal ? "Theirs is no singular covariance." : "No covariance is singular, so FID has no large bias."),
  );
  const halves = own.halves?.scores[state.metric];
  if (halves)
    points.push(
      point(
        "info",
        `Real against real: ${kind.name} ${scored(halves, state.metric, digits)}`,
        `Random halves of the real images (${many(own.halves.images, "image")} each) against one another, ${many(halves[2], "time")}. It shows what so few real images score, and is no lower bound. ${kind.count}`,
      ),
    );
  else
    points.push(
      point(
        "info",
        "No real halves",
        own.published_statistics
          ? "The real images are published statistics, which cannot be halved."
          : `${kind.name} is not compared between real images.`,
      ),
    );
  if (level && level[0] !== null) {
    const better = solvers.filter(
      (cell) =>
        (cell.scores[state.metric]?.[0] ?? null) !== null && cell.scores[state.metric][0] < level[0] === kind.lower,
    );
    points.push(
      point(
        better.length ? "mind" : "good",
        `The fine-step solver: ${kind.name} ${scored(level, state.metric, digits)}`,
        `${solverOf(reference).label}, NFE ${reference.nfe}, is what distillation aims at. `,
        better.length
          ? `${many(better.length, "cell")} ${better.length === 1 ? "scores" : "score"} better than it: an error of the solver can hide one of the model, so a little better is no virtue.`
          : "No solver scores better than it.",
      ),
    );
  }
  const published = cells.filter((cell) => cell.published);
  const beside = published.map((cell) =>
    make(
      "li",
      {},
      cellButton(cell, titleOf(cell)),
      `: ${scored(cell.scores.fid, "fid", own.decimals.fid)} here; published ${alternatives(
        cell.published.map((each) => `${each.fid} (${each.source})`),
        "and",
      )}`,
    ),
  );
  points.push(
    published.length
      ? point(
          "good",
          `${many(published.length, "cell")} can be held against a published FID`,
          "Same checkpoint, solver, evaluations, statistics and number of images.",
          make("ul", {}, beside),
          own.incomparable
            ? `Not compared, at other or unstated conventions: ${many(own.incomparable, "FID")} of this checkpoint.`
            : "",
        )
      : point(
          "info",
          "Nothing published to compare with",
          own.incomparable
            ? `Published for this checkpoint: ${many(own.incomparable, "FID")}, at other or unstated conventions.`
            : "config/published_fids.csv has no FID of this checkpoint.",
        ),
  );
  const failed = solvers.filter((cell) => Object.values(cell.scores).some((score) => score[0] === null));
  if (failed.length)
    points.push(
      point(
        "mind",
        "Not finite",
        `${many(failed.length, "cell")} ${failed.length === 1 ? "has" : "have"} a score that is not a number: `,
        failed.flatMap((cell, i) => [i ? ", " : "", cellButton(cell, titleOf(cell))]),
      ),
    );
  find("trust-body").replaceChildren(make("ul", { class: "points" }, points));
}
