// Which problems: boundary sets, solve rates, and every problem of every checkpoint.

const MOST_SETS = 24;

const upset = {
  id: "boundary",
  title: "Who solves what",
  explain: "Problems by exactly which checkpoints solve them within k attempts: each column is one combination (filled dots), its bar the expected number of problems over all choices of k of the rollouts.",
  wide: true,
  empty: "Needs at least one rollout of every problem.",
  rows: () => task().overlaps.map((group, j) => ({
    _set: j, solved_by: group.solved_by.join(" + ") || "none", checkpoints: group.solved_by.length, k: task().overlap_k, problems: group.size, n_problems: task().problems.length, ids: group.ids.join(" "),
  })),
  figure(rows) {
    const first = rows.slice(0, narrow() ? 10 : MOST_SETS);
    const labels = runs().map((run) => run.label);
    const inSet = (each, i) => task().overlaps[each._set].solved_by.includes(labels[i]);
    const spots = first.flatMap((each, j) => labels.map((_, i) => ({ x: j, y: labels.length - 1 - i, on: inSet(each, i), i })));
    const columns = first.map((each, j) => {
      const ys = spots.filter((spot) => spot.x === j && spot.on).map((spot) => spot.y);
      return { type: "scatter", mode: "lines", x: [j, j], y: ys.length ? [Math.min(...ys), Math.max(...ys)] : [null, null], line: { color: css("--soft"), width: 1.5 }, hoverinfo: "skip", showlegend: false, yaxis: "y2" };
    });
    const share = Math.min(0.62, 0.12 + 0.05 * labels.length);
    return {
      data: [
        { type: "bar", x: first.map((_, j) => j), y: first.map((each) => each.problems), marker: { color: first.map((each) => (each.checkpoints ? css("--bar") : css("--faint"))) }, text: first.map((each) => decimal(each.problems)), textposition: "outside", cliponaxis: false, textfont: { color: css("--ink"), size: 11 }, hoverinfo: "text", showlegend: false,
          hovertext: first.map((each) => `<b>${decimal(each.problems)} of ${plural(each.n_problems, "problem")}</b> expected<br>solved within ${count(each.k)} by ${esc(each.solved_by, 160)}<br>most likely ${esc(each.ids, 120)}`) },
        ...columns,
        { type: "scatter", mode: "markers", x: spots.map((spot) => spot.x), y: spots.map((spot) => spot.y), yaxis: "y2", hoverinfo: "skip", showlegend: false, marker: { size: 9, color: spots.map((spot) => (spot.on ? colour(spot.i) : css("--line"))) } },
      ],
      layout: {
        height: 250 + 24 * labels.length, margin: { l: 20, r: 10, t: 24, b: 14 }, bargap: 0.35,
        xaxis: { showticklabels: false, showgrid: false, zeroline: false, range: [-0.6, first.length - 0.4] }, yaxis: { title: "problems", domain: [share + 0.03, 1] },
        yaxis2: { ...checkpointAxis(runs().map((_, i) => i)), domain: [0, share] },
      },
    };
  },
  says(rows) {
    const rest = rows.slice(narrow() ? 10 : MOST_SETS);
    const more = rest.length ? ` ${plural(rest.length, "smaller group")} with ${decimal(rest.reduce((sum, each) => sum + each.problems, 0))} problems are in the CSV.` : "";
    return `n = ${plural(task().problems.length, "problem")}, k = ${count(task().overlap_k)} attempts. Expected numbers; the next chart shows what chance alone would give.${more}`;
  },
};

const chance = {
  id: "chance",
  title: "Gained and lost, compared with chance",
  explain: "Problems that only the checkpoint solves (gained) and only the baseline solves (lost). The grey bar is what two runs of the same policy would show: a mark inside it is no evidence of a change.",
  wide: true,
  empty: "Needs at least two runs, drawn without a stopping rule.",
  rows: () => shownRuns().flatMap((i) => {
    const pair = pairOf(i);
    return [["gained", pair?.gains], ["lost", pair?.losses]].filter(([, size]) => size).map(([what, size]) => ({
      _run: i, checkpoint: runs()[i].label, baseline: runs()[state.baseline].label, set: what, k: largestK(), observed: size.observed, chance_expected: size.expected, chance_low: size.low, chance_high: size.high, level: 0.95, p_value: size.p_value, p_holm: size.p_holm, n_problems: task().problems.length,
      ids: (what === "gained" ? pair.gained : pair.lost).join(" "),
      solve_rate_changed: (what === "gained" ? pair.more_often : pair.less_often).join(" "),
      _changed: (what === "gained" ? pair.more_often : pair.less_often).length,
    }));
  }),
  figure(rows) {
    const order = [...new Set(rows.map((each) => each._run))];
    const y = (each) => order.length - 1 - order.indexOf(each._run) + (each.set === "gained" ? 0.17 : -0.17);
    const text = rows.map((each) => `<b>${esc(runs()[each._run].short)}</b>: ${each.set} ${decimal(each.observed)}<br>same policy twice: ${decimal(each.chance_expected)} ${limits(each.chance_low, each.chance_high, decimal)}<br>${pValue(each.p_holm)} (Holm), ${plural(each.n_problems, "problem")}, k = ${count(each.k)}<br>solve rate shown to be ${each.set === "gained" ? "higher" : "lower"} on ${plural(each._changed, "single problem")}`);
    const kind = (name, marker) => {
      const mine = rows.map((each, j) => [each, j]).filter(([each]) => each.set === name);
      return { type: "scatter", mode: "markers", name, x: mine.map(([each]) => each.observed), y: mine.map(([each]) => y(each)), hoverinfo: "text", hovertext: mine.map(([, j]) => text[j]), cliponaxis: false, marker: { ...marker, size: 11 } };
    };
    return {
      data: [
        { type: "scatter", mode: "lines", name: "chance, 95 %", x: rows.flatMap((each) => [each.chance_low, each.chance_high, null]), y: rows.flatMap((each) => [y(each), y(each), null]), line: { color: css("--faint"), width: 9 }, hoverinfo: "skip" },
        kind("gained", { symbol: "triangle-up", color: outcomeColour("correct") }),
        kind("lost", { symbol: "triangle-down", color: outcomeColour("wrong") }),
      ],
      layout: { height: 110 + 36 * order.length, margin: { l: 20, r: 14, t: 10, b: 44 }, showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { color: css("--ink") } }, xaxis: { title: "problems", rangemode: "tozero" }, yaxis: checkpointAxis(order) },
    };
  },
  says: (rows) => `Expected sizes at k = ${count(rows[0].k)} of ${plural(rows[0].n_problems, "problem")}; p-values corrected by Holm over all checkpoints. Baseline: ${runs()[state.baseline].short}. A gained set beyond chance follows from a higher solve rate just as from new abilities. The table lists single problems whose solve rate changed, at a false discovery rate of 5 %.`,
};

const histogram = {
  id: "histogram",
  title: "How sure is each problem?",
  explain: "Problems by the share of attempts that were right, from never (0) to always (1). Training often empties the middle: problems become always solved, or never.",
  rows: () => rowsOf(metricOf("histogram"), (each) => ({ solve_rate: each.group })),
  figure: (rows) => (new Set(rows.map((each) => each._run)).size <= 4 ? bars(rows) : cells(rows, histogramCells(rows))),
  wide: true,
  says: (rows) => `${standardNote(rows)} Observed rates: with more rollouts fewer problems are at 0 and at 1.`,
};

const histogramWords = { format: (value) => decimal(value), what: (each) => `problems with solve rate ${each.solve_rate}` };
const histogramCells = (rows) => ({ ...histogramWords, by: "solve_rate", columns: [...new Set(rows.map((each) => each.solve_rate))], scale: (each) => Math.sqrt(each.value), label: (each) => count(each.value), title: "solve rate c/n" });

function bars(rows) {
  const data = [...new Set(rows.map((each) => each._run))].map((i) => {
    const mine = rows.filter((each) => each._run === i);
    return {
      type: "bar", name: esc(runs()[i].short), x: mine.map((each) => esc(each.solve_rate)), y: mine.map((each) => each.value), marker: { color: colour(i) }, hoverinfo: "text", hovertext: mine.map((each) => hoverText(each, histogramWords)),
      error_y: { type: "data", symmetric: false, array: mine.map((each) => each.high - each.value), arrayminus: mine.map((each) => each.value - each.low), thickness: 1, width: 0, color: css("--soft") },
    };
  });
  return { data, layout: { height: 340, bargap: 0.22, showlegend: !narrow(), legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { color: css("--ink") } }, xaxis: { title: "solve rate c/n", type: "category", tickangle: narrow() ? -60 : state.printing ? -35 : 0 }, yaxis: { title: "problems" } } };
}

const heat = {
  id: "heat-map",
  title: "Every problem, every checkpoint",
  explain: "Solve rate of each problem (columns) by each checkpoint (rows). Blank: never solved. Move over a cell to read the problem, click it for its rollouts; with the keyboard, use the arrows.",
  wide: true,
  controls: [{ key: "order", label: "problems by", initial: "difficulty", options: () => [["difficulty", "difficulty"], ...(new Set(task().tiers).size > 1 ? [["tier", "tier, then difficulty"]] : []), ["task", "order in the task"]] }],
  keys: true,
  rows: (chart) => shownRuns().flatMap((i) => problemOrder(chart).map((j) => {
    const run = runs()[i];
    return { _run: i, checkpoint: run.label, problem: task().problems[j], tier: task().tiers[j], n: run.n[j], correct: run.c[j], solve_rate: run.c[j] / run.n[j], low: run.low[j], high: run.high[j] };
  })),
  figure(_, chart) {
    chart.order = problemOrder(chart);
    chart.shown = shownRuns();
    const z = [...chart.shown].reverse().map((i) => chart.order.map((j) => Math.sqrt(runs()[i].c[j] / runs()[i].n[j])));
    const ticks = [0, 0.01, 0.1, 0.25, 0.5, 1];
    const ramp = Array.from({ length: 9 }, (_unused, j) => [j ? 1e-4 + (1 - 1e-4) * (j / 8) : 1e-4, viridis(isDark() ? 0.2 + 0.1 * j : j / 8)]);
    return {
      data: [{ type: "heatmap", z, zmin: 0, zmax: 1, colorscale: [[0, css("--card")], ...ramp], hoverinfo: "none", xgap: 0, ygap: 1, colorbar: { thickness: 10, outlinewidth: 0, tickvals: ticks.map(Math.sqrt), ticktext: ticks.map((value) => (value ? `${100 * value} %` : "never")), tickfont: { color: css("--soft"), size: 11 } } }],
      layout: { height: Math.max(220, 90 + 26 * chart.shown.length), margin: { l: 20, r: 10, t: 10, b: 40 }, xaxis: { title: `${count(chart.order.length)} problems, ${{ difficulty: "hardest to easiest", tier: "by tier, hardest to easiest", task: "as in the task" }[chosen(chart, "order")]}`, showticklabels: false, showgrid: false, zeroline: false }, yaxis: checkpointAxis(chart.shown) },
    };
  },
  wire(chart) {
    chart.plot.on("plotly_hover", (event) => {
      const point = event.points[0];
      cellTip(chart, point.y, point.x, event.event.clientX, event.event.clientY);
    });
    chart.plot.on("plotly_unhover", hideTip);
    chart.plot.on("plotly_click", (event) => openProblem(chart.order[event.points[0].x]));
    chart.plot.addEventListener("keydown", (event) => moveCell(chart, event));
    chart.plot.addEventListener("blur", hideTip);
  },
  says: () => `n = ${plural(task().problems.length, "problem")}; ${[...new Set(runs().flatMap((run) => [run.n_min, run.n_max]))].map(count).join(" to ")} rollouts each. Each cell's tooltip gives c of n and the exact 95 % interval of the solve rate.`,
};

function problemOrder(chart) {
  const ease = task().problems.map((_, j) => runs().reduce((sum, run) => sum + run.c[j] / run.n[j], 0));
  const order = task().problems.map((_, j) => j);
  const byTier = (a, b) => task().tiers[a].localeCompare(task().tiers[b], "en", { numeric: true });
  const how = chosen(chart, "order");
  if (how === "task") return order;
  return order.sort((a, b) => (how === "tier" ? byTier(a, b) : 0) || ease[a] - ease[b] || a - b);
}

function cellTip(chart, y, x, left, top) {
  const run = runs()[chart.shown[chart.shown.length - 1 - y]];
  const j = chart.order[x];
  const tier = task().tiers[j] ? `, ${task().tiers[j]}` : "";
  showTip([
    ["strong", `${run.short}: ${percent(run.c[j] / run.n[j])} ${limits(run.low[j], run.high[j], percent)}`],
    ["soft", `${count(run.c[j])} of ${count(run.n[j])} right · ${task().problems[j].slice(0, 200)}${tier.slice(0, 100)}`],
    ["", task().questions[j].slice(0, 700)],
  ], left, top);
}

function moveCell(chart, event) {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
  if (event.key === "Enter" && chart.at) openProblem(chart.order[chart.at[0]]);
  if (event.key === "Escape") hideTip();
  if (!step) return;
  event.preventDefault();
  const [x, y] = chart.at ?? [-1, chart.shown.length - 1];
  chart.at = [Math.min(Math.max(x + step[0], 0), chart.order.length - 1), Math.min(Math.max(y + step[1], 0), chart.shown.length - 1)];
  const { xaxis, yaxis } = chart.plot._fullLayout;
  const box = chart.plot.getBoundingClientRect();
  cellTip(chart, chart.at[1], chart.at[0], box.left + xaxis._offset + xaxis.d2p(chart.at[0]), box.top + yaxis._offset + yaxis.d2p(chart.at[1]));
}
