// One line chart for everything: linear or logarithmic axes, error bars, levels, hover, keyboard.

const MARGIN = { left: 62, right: 16, top: 14, bottom: 44 };

/** Numbers on a logarithmic axis: powers of ten, with 2 and 5 or 3 where there is room. */
function logTicks(low, high, most = 8) {
  let ticks = [];
  for (const digits of [[1, 2, 5], [1, 3], [1]]) {
    ticks = [];
    for (let k = Math.floor(Math.log10(low)); k <= Math.ceil(Math.log10(high)); k++)
      ticks.push(...digits.map((digit) => digit * 10 ** k).filter((tick) => tick >= low && tick <= high));
    if (ticks.length <= most) break;
  }
  if (ticks.length < 2) return evenTicks(low, high);
  return ticks.filter((_, i) => i % Math.ceil(ticks.length / most) === 0);
}

function evenTicks(low, high, most = 6) {
  const rough = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((each) => each >= rough);
  const ticks = [];
  for (let k = Math.ceil(low / step); k * step <= high + step * 1e-9; k++) ticks.push(k * step);
  return ticks;
}

/** Maps values to 0 to 1, with some room at both ends; noise levels by their angle, from the largest. */
function scaleOf(values, { log = false, angle = false, ticks = null, always = [] }) {
  const known = [...values, ...always].filter((value) => Number.isFinite(value) && (!log || value > 0));
  const at = angle ? (sigma) => -Math.atan(sigma) : log ? Math.log10 : (value) => value;
  let [low, high] = known.length ? [Math.min(...known.map(at)), Math.max(...known.map(at))] : [0, 1];
  if (high - low < 1e-12)
    [low, high] = log
      ? [low - 0.2, high + 0.2]
      : [low - (Math.abs(low) || 1) * 0.5, high + (Math.abs(high) || 1) * 0.5];
  const gap = (high - low) * (angle ? 0.03 : 0.06);
  [low, high] = [low - gap, high + gap];
  const shown = ticks || (log ? logTicks(10 ** low, 10 ** high) : evenTicks(low, high));
  return {
    of: (value) => (at(value) - low) / (high - low),
    ticks: shown.filter((tick) => at(tick) >= low - 1e-9 && at(tick) <= high + 1e-9),
  };
}

/** A solver's marker, as in the figures: hollow for plain, filled for distilled. */
const swatch = ({ solver, dashed }) =>
  make(
    "svg",
    { width: 28, height: 14, class: dashed ? "swatch dashed" : "swatch", "aria-hidden": "true" },
    make("use", { href: `#swatch-${solver}` }),
  );

/** Dash patterns that tell the levels of a chart apart. */
const dashes = (i) => ({ "stroke-dasharray": ["2 4", "8 3 2 3", "5 3"][i % 3] });

const levelSwatch = (i) =>
  make(
    "svg",
    { width: 28, height: 14, class: "swatch", "aria-hidden": "true" },
    make("line", { class: "level", x1: 1, x2: 27, y1: 7, y2: 7, ...dashes(i) }),
  );

/**
 * Draw lines.
 *
 * box: element that the chart fills, and is drawn anew in when its width changes.
 * options: as charts.py writes them.
 */
function chart(box, options) {
  const hidden = new Set();
  const drawing = make("div", { class: "drawing" });
  const tip = make("div", { class: "tip", role: "status", hidden: true });
  const legend =
    options.legend === false ? null : make("div", { class: "legend", role: "group", "aria-label": "Lines shown" });
  box.replaceChildren(drawing, ...(legend ? [legend] : []), tip);
  const draw = () => {
    const width = Math.max(box.clientWidth, 260);
    if (box.clientWidth)
      drawing.replaceChildren(
        drawn(width, { ...options, lines: options.lines.filter((line) => !hidden.has(line.name)) }, tip),
      );
  };
  if (legend)
    for (const line of options.lines)
      legend.append(
        make(
          "button",
          {
            type: "button",
            "aria-pressed": "true",
            onclick: (event) => {
              const off = !hidden.delete(line.name);
              if (off) hidden.add(line.name);
              event.currentTarget.setAttribute("aria-pressed", String(!off));
              draw();
            },
          },
          swatch(line),
          line.name,
        ),
      );
  // A label at the line itself would cover curves.
  options.levels.forEach((level, i) => legend?.append(make("span", {}, levelSwatch(i), level.text)));
  let last = box.clientWidth;
  new ResizeObserver(() => {
    if (Math.abs(box.clientWidth - last) < 1) return;
    last = box.clientWidth;
    draw();
  }).observe(box);
  draw();
}

function drawn(width, options, tip) {
  const { lines, levels, height } = options;
  const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
  const points = lines.flatMap((line) => line.points.filter((point) => Number.isFinite(point.y)));
  const spread = points.flatMap((point) => [point.y - (point.error || 0), point.y, point.y + (point.error || 0)]);
  // A value of zero has no place on a logarithmic axis; the table has it.
  const log = options.y.log && points.some((point) => point.y > 0) && points.every((point) => point.y >= 0);
  const y = scaleOf(log ? spread.filter((value) => value > 0) : spread, {
    ...options.y,
    log,
    always: levels.map((level) => level.y),
  });
  const x = scaleOf(
    points.map((point) => point.x),
    options.x,
  );
  const px = (value) => MARGIN.left + x.of(value) * inner.width;
  const py = (value) => MARGIN.top + (1 - y.of(value)) * inner.height;
  const svg = make("svg", {
    width,
    height,
    viewBox: `0 0 ${width} ${height}`,
    tabindex: 0,
    role: "application",
    "aria-roledescription": "line chart",
    "aria-label": `${options.label}. Arrow keys go from point to point${points.some((point) => point.cell) ? ", Enter opens the cell" : ""}.`,
  });
  for (const tick of y.ticks)
    svg.append(
      make("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: py(tick), y2: py(tick) }),
      make("text", { x: MARGIN.left - 8, y: py(tick) + 4, "text-anchor": "end" }, short(tick)),
    );
  const word = (tick) => options.x.words?.[options.x.ticks.indexOf(tick)] ?? String(tick);
  let free = -Infinity;
  for (const tick of x.ticks) {
    if (Math.abs(px(tick) - free) < 26) continue;
    free = px(tick);
    svg.append(
      make("line", { class: "tick", x1: free, x2: free, y1: height - MARGIN.bottom, y2: height - MARGIN.bottom + 5 }),
      make("text", { x: free, y: height - MARGIN.bottom + 19, "text-anchor": "middle" }, word(tick)),
    );
  }
  svg.append(
    make("line", {
      class: "axis",
      x1: MARGIN.left,
      x2: width - MARGIN.right,
      y1: height - MARGIN.bottom,
      y2: height - MARGIN.bottom,
    }),
  );
  svg.append(
    make(
      "text",
      { class: "label", x: MARGIN.left + inner.width / 2, y: height - 6, "text-anchor": "middle" },
      options.x.label,
    ),
  );
  svg.append(
    make(
      "text",
      {
        class: "label",
        transform: `translate(13 ${MARGIN.top + inner.height / 2}) rotate(-90)`,
        "text-anchor": "middle",
      },
      options.y.label,
    ),
  );
  const bottom = py(0),
    clamp = (value) => Math.min(Math.max(value, MARGIN.top), height - MARGIN.bottom);
  levels.forEach((level, i) => {
    const at = log && !(level.y > 0) ? NaN : py(level.y);
    if (at >= MARGIN.top - 1 && at <= height - MARGIN.bottom + 1)
      svg.append(
        make("line", { class: "level", x1: MARGIN.left, x2: width - MARGIN.right, y1: at, y2: at, ...dashes(i) }),
      );
  });
  const marks = [];
  for (const line of lines) {
    const group = make("g", { "data-solver": line.solver, class: line.dashed ? "dashed" : line.fine ? "fine" : null });
    const own = line.points
      .filter((point) => Number.isFinite(point.y) && (!log || point.y > 0))
      .sort((a, b) => a.x - b.x);
    group.append(
      make("path", {
        class: "line",
        d: own.map((point, i) => `${i ? "L" : "M"}${px(point.x).toFixed(1)},${py(point.y).toFixed(1)}`).join(""),
      }),
    );
    for (const point of own) {
      const [cx, cy] = [px(point.x), py(point.y)];
      if (point.error) {
        const low = log && point.y <= point.error ? height - MARGIN.bottom : clamp(py(point.y - point.error));
        group.append(
          make("path", {
            class: "error",
            d: `M${cx},${low.toFixed(1)}V${clamp(py(point.y + point.error)).toFixed(1)}`,
          }),
        );
      }
      if (line.solver)
        group.append(
          make("use", { class: "mark", href: `#marker-${line.solver}`, x: cx.toFixed(1), y: cy.toFixed(1) }),
        );
      marks.push({ cx, cy, point, line });
    }
    svg.append(group);
  }
  if (points.some((point) => point.y < 0) && bottom < height - MARGIN.bottom)
    svg.append(make("line", { class: "axis", x1: MARGIN.left, x2: width - MARGIN.right, y1: bottom, y2: bottom }));
  if (options.scattered) marks.sort((a, b) => a.cx - b.cx || a.cy - b.cy);
  interact(svg, marks, tip, width, options.scattered);
  return svg;
}

/** Hover, click and keys of a drawn chart. Where it is scattered, all points are in one row from left to right. */
function interact(svg, marks, tip, width, scattered) {
  const ring = make("circle", { class: "ring", r: 9, visibility: "hidden" });
  svg.append(ring);
  let now = null;
  const show = (mark) => {
    now = mark;
    ring.setAttribute("visibility", mark ? "visible" : "hidden");
    tip.hidden = !mark;
    svg.style.cursor = mark?.point.cell ? "pointer" : "";
    if (!mark) return;
    ring.setAttribute("cx", mark.cx);
    ring.setAttribute("cy", mark.cy);
    tip.replaceChildren(make("strong", {}, mark.line.name), make("span", {}, mark.point.text));
    const left = Math.min(Math.max(mark.cx - tip.offsetWidth / 2, 0), width - tip.offsetWidth);
    const above = mark.cy - tip.offsetHeight - 14;
    tip.style.transform = `translate(${left}px, ${above < 0 ? mark.cy + 16 : above}px)`;
  };
  const nearest = (event, reach) => {
    const place = svg.getBoundingClientRect();
    const far = (mark) => Math.hypot(mark.cx - (event.clientX - place.left), mark.cy - (event.clientY - place.top));
    const best = marks.reduce((a, b) => (a && far(a) <= far(b) ? a : b), null);
    return best && far(best) < reach ? best : null;
  };
  svg.addEventListener("pointermove", (event) => show(nearest(event, 40)));
  svg.addEventListener("pointerleave", () => show(null));
  svg.addEventListener("blur", () => show(null));
  svg.addEventListener("focus", () => svg.matches(":focus-visible") && show(now || marks[0] || null));
  svg.addEventListener("click", (event) => {
    const mark = nearest(event, 24);
    if (mark?.point.cell) openCell(mark.point.cell);
  });
  svg.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && now?.point.cell) return openCell(now.point.cell);
    if (!["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"].includes(event.key)) return undefined;
    event.preventDefault();
    if (!now) return show(marks[0] || null);
    const sideways = event.key === "ArrowLeft" || event.key === "ArrowRight";
    const own = marks.filter(
      (mark) => scattered || (sideways ? mark.line === now.line : mark.point.x === now.point.x),
    );
    own.sort((a, b) => (sideways ? a.cx - b.cx || a.cy - b.cy : a.cy - b.cy || a.cx - b.cx));
    const step = event.key === "ArrowLeft" || event.key === "ArrowUp" ? -1 : 1;
    return show(own[Math.min(Math.max(own.indexOf(now) + step, 0), own.length - 1)]);
  });
}
