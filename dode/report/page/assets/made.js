// How it was made.

/** A checkpoint: name, source, checksum, licence. */
function checkpoint(card) {
  return [
    make("b", {}, card.card),
    make("br"),
    `${card.licence}${card.restrictions ? ` (${card.restrictions})` : ""}`,
    make("br"),
    make("code", {}, card.source),
    make("br"),
    make("code", { class: "sum" }, card.checksum === "none" ? "no checksum is published" : card.checksum),
  ];
}

/** What a job ran on: the machine, and versions that may change the last digits. */
function environmentText({ machine, software }) {
  const { cpu, threads, device, ...gpu } = machine;
  const listed = (pairs) => Object.entries(pairs).map(([name, version]) => `${name} ${version}`);
  return [device === "cpu" ? `${cpu}, ${many(threads, "thread")}` : device, ...listed(gpu), ...listed(software)].join(
    ", ",
  );
}

function realText(own) {
  return own.published_statistics ? own.real : `real images: ${own.real}`;
}

const BIBTEX = `@inproceedings{kim2024dode,
  title     = {Distilling {ODE} Solvers of Diffusion Models into Smaller Steps},
  author    = {Kim, Sanghwan and Tang, Hao and Yu, Fisher},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2024},
  note      = {arXiv:2309.16421}
}`;

function drawMade() {
  const uses = DATA.environments.map(
    (_, index) => DATA.cells.filter((cell) => Object.values(cell.made.environments).flat().includes(index)).length,
  );
  const steps = [
    "A checkpoint is fetched, and verified by its checksum.",
    "A teacher solves the same noise in many small steps, and keeps its states at the student's noise levels.",
    "λ, one scalar (or a few) an evaluation, is solved in closed form so that the student meets the teacher. The network stays as it is.",
    "Every solver makes images from the same noise, which belongs to the image's number and the seed.",
    "Every cell is scored on its own, and evaluations are counted as they happen.",
  ];
  find("made-body").replaceChildren(
    make(
      "ol",
      {},
      steps.map((step) => make("li", {}, step)),
    ),
    make(
      "p",
      {},
      "Each step is a job of a Snakemake workflow. Its record, with the graph of all jobs and the code of every step, is ",
      make("a", { href: "report.html" }, "report.html"),
      " beside this page; so are the tables as ",
      ["csv", "md", "tex"].flatMap((kind, i) => [i ? ", " : "", make("a", { href: `table.${kind}` }, `table.${kind}`)]),
      ".",
    ),
    make(
      "div",
      { class: "wide", role: "region", "aria-label": "Models and images", tabindex: 0 },
      sheet(
        { class: "facts" },
        ["data set", "model", "features", "scored against"],
        DATA.datasets.map((own) =>
          make(
            "tr",
            {},
            make(
              "th",
              { scope: "row" },
              own.id,
              make("br"),
              make("small", {}, `${own.shape.join(" × ")}, ${own.prediction} prediction`),
            ),
            make("td", {}, checkpoint(own.model)),
            make("td", {}, checkpoint(own.extractor)),
            make("td", {}, realText(own)),
          ),
        ),
      ),
    ),
    make(
      "p",
      {},
      "Made on: ",
      alternatives(
        DATA.environments.map((each, index) => `${environmentText(each)} (${many(uses[index], "cell")})`),
        "and",
      ),
      ".",
      DATA.revision ? [" Tables written by commit ", make("code", { class: "sum" }, DATA.revision), "."] : null,
    ),
    make(
      "p",
      {},
      make("button", { type: "button", onclick: saveConfig }, `Save the configuration (${DATA.title}.json)`),
      " It is the whole benchmark, defaults filled in: ",
      make("code", {}, `snakemake --configfile ${DATA.title}.json`),
      ".",
    ),
    make("details", {}, make("summary", {}, "Cite"), make("pre", {}, BIBTEX)),
  );
}

function saveConfig() {
  const text = JSON.stringify(read("config"), null, 1);
  make("a", {
    href: `data:application/json;charset=utf-8,${encodeURIComponent(text)}`,
    download: `${DATA.title}.json`,
  }).click();
}
