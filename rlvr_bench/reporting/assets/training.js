// The checkpoints of one training run: measures by step, stages, and the entropy-performance law.

const LONG = 3; // checkpoints from which on a series has a section of its own
const longSeries = (each) => each.series.filter((one) => one.runs.length >= LONG);
const hasTraining = () => PAGE.some((each) => longSeries(each).length > 0);

const SERIES_CURVE = { "pass@k, k = 1": ["pass@1", 1], "pass@k, largest k": ["pass@k at the largest k", "largest"] };
const isShare = (measure) => measure in SERIES_CURVE || task().metrics.find((each) => each.name === measure).unit === "fraction";

// Label and budget of each measure: every metric that a series follows, and the two ends of pass@k.
function seriesMeasures() {
  const followed = task().metrics.filter((each) => each.over_training);
  const label = ({ name, unit }) => name.replaceAll("_", " ") + (["fraction", "perplexity"].includes(unit) ? "" : `, ${unit}`);
  return { ...Object.fromEntries(followed.map((each) => [each.name, [label(each), undefined]])), ...SERIES_CURVE };
}

function seriesEstimate(run, measure) {
  const [, k] = SERIES_CURVE[measure] ?? [];
  if (k === undefined) return estimates(run, measure, null)[0];
  const curve = estimates(run, "pass@k").filter((each) => known(each.value));
  return curve.find((each) => each.k === (k === "largest" ? largestK() : k));
}

const steps = {
  id: "steps",
  title: "Over training",
  explain: "A measure at each training step. Falling token entropy means that the policy commits itself; when it nears zero there is little left to explore.",
  wide: true,
  present: (each) => !hasTraining() || each.series.length > 0,
  controls: [{ key: "measure", label: "measure", initial: metricOf("entropy"), options: () => Object.entries(seriesMeasures()).filter(([name]) => runs().some((run) => known(seriesEstimate(run, name)?.value))).map(([name, [label]]) => [name, label]) }],
  empty: "No training series here: needs two checkpoints whose names end in their step, such as grpo@200 or global_step_200.",
  rows(chart) {
    const measure = chosen(chart, "measure");
    const found = shownRuns().filter((i) => runs()[i].step !== null && known(seriesEstimate(runs()[i], measure)?.value)).map((i) => row(i, seriesEstimate(runs()[i], measure), { series: runs()[i].series, step: runs()[i].step, measure }));
    found.sort((a, b) => a.series.localeCompare(b.series) || a.step - b.step);
    return found.filter((each) => found.some((other) => other.series === each.series && other.step !== each.step));
  },
  figure(rows, chart) {
    const measure = chosen(chart, "measure");
    const rate = isShare(measure);
    const options = { format: rate ? percent : decimal, what: (each) => `step ${count(each.step)}, ${seriesMeasures()[each.measure][0]}` };
    const names = [...new Set(rows.map((each) => each.series))];
    const data = names.map((name, j) => {
      const mine = rows.filter((each) => each.series === name);
      return {
        type: "scatter", mode: "lines+markers", name: esc(name.split("/").pop()), x: mine.map((each) => each.step), y: mine.map((each) => each.value), hoverinfo: "text", hovertext: mine.map((each) => hoverText(each, options)),
        error_y: { type: "data", symmetric: false, array: mine.map((each) => (known(each.high) ? each.high - each.value : 0)), arrayminus: mine.map((each) => (known(each.low) ? each.value - each.low : 0)), thickness: 1.3, width: 3, color: css("--soft") },
        line: { color: names.length > 1 ? COLOURS[shade()][j % 12] : css("--soft"), width: 2 }, marker: { size: 9, color: mine.map((each) => colour(each._run)), symbol: symbol(j) },
      };
    });
    const knots = fitsOf(measure).filter((each) => each.second_stage);
    const shapes = knots.flatMap((fit) => [
      { type: "rect", xref: "x", yref: "paper", x0: fit.low, x1: fit.high, y0: 0, y1: 1, line: { width: 0 }, fillcolor: css("--faint"), opacity: 0.35, layer: "below" },
      { type: "line", xref: "x", yref: "paper", x0: fit.knot, x1: fit.knot, y0: 0, y1: 1, line: { color: css("--soft"), width: 1, dash: "dot" } },
    ]);
    const annotations = knots.map((fit) => ({ x: fit.knot, y: 1, yref: "paper", xanchor: "left", yanchor: "top", text: ` second stage from step ${decimal(fit.knot)}`, showarrow: false, font: { color: css("--soft"), size: 11 } }));
    return { data, layout: { height: 320, showlegend: names.length > 1, shapes, annotations, xaxis: { title: "training step" }, yaxis: { title: seriesMeasures()[measure][0], rangemode: "tozero", tickformat: rate ? ".0%" : undefined } } };
  },
  says: (rows, chart) => `${standardNote(rows)}${fitsOf(chosen(chart, "measure")).map(stageWords).join("")}`,
};

// The stage fits of a measure, one for each series.
function fitsOf(measure) {
  const metric = { "pass@k, k = 1": "pass@1", "pass@k, largest k": `pass@${largestK()}` }[measure] ?? measure;
  return task().series.flatMap(({ series, result }) => result.stages.filter((fit) => fit.metric === metric).map((fit) => ({ series, ...fit })));
}

function stageWords(fit) {
  const name = task().series.length > 1 ? `${fit.series}: ` : "";
  const course = fit.scale === "log" ? "Its logarithm" : "The measure";
  if (fit.second_stage) return ` ${name}${course} bends at step ${decimal(fit.knot)} ${limits(fit.low, fit.high, decimal)}, ${pValue(fit.p_value)} against a straight line.`;
  return ` ${name}Stages: ${fit.note ?? "none found"}.`;
}

// The cards of the section share the chosen series.
const trainingChoice = { series: 0, matched: "plain" };
const seriesControl = { key: "series", label: "series", shared: true, options: () => longSeries(task()).map((each, j) => [j, clip(each.series, 60)]) };
const chosenSeries = (chart) => longSeries(task())[chosen(chart, "series") ?? 0];
const ofSeries = { choice: trainingChoice, present: (each) => longSeries(each).length > 0 };
const sentence = (text) => `${text.slice(0, 1).toUpperCase()}${text.slice(1)}.`;
const metricWords = (metric) => metric.replaceAll("_", " ");

const BEND = "second stage begins", QUARTERS = "three quarters of the change done";

const stages = {
  ...ofSeries,
  id: "stages",
  title: "When does each measure change?",
  explain: "Circles: the step at which a second stage begins, with its interval, where two segments fit better than one straight line (BIC and a test). Diamonds: the step by which three quarters of a measure's whole change have happened, with its interval, where that change is shown.",
  controls: [seriesControl],
  rows(chart) {
    const { series, result } = chosenSeries(chart);
    const one = (metric, what, more) => ({ series, metric, what, value: null, low: null, high: null, level: null, p_value: null, p_holm: null, scale: "", slope: null, slope_before: null, slope_after: null, change_from: null, change_to: null, checkpoints: result.checkpoints.length, n_problems: result.n_problems, note: "", ...more });
    const fits = result.stages.map((fit) => one(fit.metric, BEND, { value: fit.knot, low: fit.low, high: fit.high, level: fit.level, p_value: fit.p_value, p_holm: fit.p_holm, scale: fit.scale, slope: fit.slope, slope_before: fit.slope_before, slope_after: fit.slope_after, checkpoints: fit.n_points, note: fit.note ?? "" }));
    const marks = result.milestones.map((mark) => one(mark.metric, QUARTERS, { value: mark.step, low: mark.low, high: mark.high, level: mark.level, change_from: mark.first, change_to: mark.last }));
    return [...fits, ...marks];
  },
  figure: (rows) => dots(rows, { by: "what", kinds: [BEND, QUARTERS], at: (each) => each.metric, names: metricWords, letters: 40, title: "training step", colours: [css("--accent"), css("--soft")], symbols: ["circle", "diamond-open"], what: (each) => `${metricWords(each.metric)}: ${each.what} at step` }),
  says(rows, chart) {
    const { result } = chosenSeries(chart);
    const found = rows.filter((each) => each.what === BEND && known(each.value)).length;
    const notes = [...new Set(result.stages.filter((fit) => fit.second_stage === null).map((fit) => fit.note))];
    const words = notes.length ? sentence(notes.join("; ")) : found ? `${count(found)} of ${count(result.stages.length)} measures have a second stage (tested at 5 %, corrected for all measures by Holm).` : "No measure has a second stage: within these checkpoints each is one straight line (entropy and branching: their logarithms).";
    return `${plural(result.checkpoints.length, "checkpoint")} on ${plural(result.n_problems, "problem")}. ${words}`;
  },
};

const STATES = ["solved", "forgotten", "never solved"];
const stateColours = () => ({ solved: css("--accent"), forgotten: outcomeColour("wrong"), "never solved": css("--soft") });
const BAR = 0.08; // half the width of a checkpoint's bar; the ribbons between bars are what changes

const turnover = {
  ...ofSeries,
  id: "turnover",
  title: "What does training forget?",
  explain: "Expected numbers of problems that k rollouts of each checkpoint solve, that they do not solve although an earlier checkpoint did (forgotten), and that no checkpoint so far solved. Ribbons: the problems that change. Short lines: forgotten problems if every earlier checkpoint had this one's solve rates, so that only luck differs.",
  wide: true,
  controls: [seriesControl, { key: "k", label: "k", pick: (options) => (options.find(([k]) => k === testedBudget()) ?? options[0])[0], options: () => chosenSeries(turnover).result.turnover.map(({ k }) => [k, count(k)]) }],
  empty: "Needs runs with a number of rollouts that was fixed beforehand.",
  rows(chart) {
    const found = turnoverAt(chart);
    if (!found) return [];
    const last = { series: chosenSeries(chart).series, k: found.k, level: found.level, n_problems: chosenSeries(chart).result.n_problems };
    return found.checkpoints.flatMap((each, j) => {
      const beside = { solved: { number: each.solved.value, low: each.solved.low, high: each.solved.high }, forgotten: each.forgotten ?? { number: 0 }, "never solved": { number: each.never } };
      return STATES.map((what) => ({ ...last, step: each.step, what, value: beside[what].number, low: what === "solved" ? beside[what].low ?? null : null, high: what === "solved" ? beside[what].high ?? null : null, by_chance: beside[what].by_chance ?? null, excess: beside[what].excess ?? null, excess_low: what === "forgotten" ? beside[what].low ?? null : null, excess_high: what === "forgotten" ? beside[what].high ?? null : null, p_holm: beside[what].p_holm ?? null, first: each.first?.number ?? null, first_by_chance: each.first?.by_chance ?? null, lost: each.lost, regained: each.regained, _at: j }));
    });
  },
  figure(rows, chart) {
    const points = turnoverAt(chart).checkpoints, colours = stateColours();
    const base = { solved: () => 0, forgotten: (j) => points[j].solved.value, "never solved": (j) => points[j].solved.value + (points[j].forgotten?.number ?? 0) };
    const data = STATES.map((what) => {
      const mine = rows.filter((each) => each.what === what);
      return { type: "bar", name: what, x: mine.map((each) => each._at), y: mine.map((each) => each.value), base: mine.map((each) => base[what](each._at)), width: 2 * BAR, marker: { color: colours[what] }, hoverinfo: "text", hovertext: mine.map(turnoverWords) };
    });
    const marks = rows.filter((each) => each.what === "forgotten" && known(each.by_chance));
    data.push({ type: "scatter", mode: "markers", name: "forgotten by chance", x: marks.map((each) => each._at), y: marks.map((each) => points[each._at].solved.value + each.by_chance), marker: { symbol: "line-ew", size: 14, color: css("--card"), line: { width: 2.5, color: css("--ink") } }, hoverinfo: "text", hovertext: marks.map(turnoverWords) });
    const shapes = points.slice(1).flatMap((to, j) => flows(points[j], to).map(([state, ...limits]) => ({ type: "path", layer: "below", line: { width: 0 }, fillcolor: colours[state], opacity: 0.28, path: ribbon(j + BAR, j + 1 - BAR, ...limits) })));
    const few = points.length <= 16;
    return { data, layout: { height: 420, barmode: "overlay", showlegend: true, legend: topLegend(), shapes, xaxis: { title: "training step", tickvals: points.map((_unused, j) => j).filter((j) => few || j % Math.ceil(points.length / 12) === 0), ticktext: points.map((each) => count(each.step)).filter((_unused, j) => few || j % Math.ceil(points.length / 12) === 0) }, yaxis: { title: "problems", range: [0, chosenSeries(chart).result.n_problems] } } };
  },
  says(rows, chart) {
    const { k, union, share_if_alike: alike, checkpoints } = turnoverAt(chart), last = checkpoints.at(-1), best = chosenSeries(chart).result.best.find((each) => each.k === k);
    const { forgotten } = last, size = (value) => value.toFixed(1);
    const chance = !forgotten || !known(forgotten.by_chance) ? "" : `; ${size(forgotten.by_chance)} would be by chance${forgotten.modelled ? " (from a fitted Beta model, not tested)" : ` (${size(forgotten.excess)} more, ${limits(forgotten.low, forgotten.high, size)}, ${pValue(forgotten.p_holm)} after Holm)`}`;
    const lostWords = forgotten ? `Of the ${size(forgotten.number + last.never)} problems that step ${count(last.step)} does not solve in ${plural(k, "rollout")}, an earlier checkpoint solved ${size(forgotten.number)}${chance}. ` : "";
    const share = known(last.share) ? `Some checkpoint solves ${size(union)} problems, step ${count(last.step)} ${percent(last.share)} of them${known(alike) ? ` (${percent(alike)} if all checkpoints had one solve rate)` : ""}. ` : "";
    const bestWords = best ? `The best checkpoint by pass@${k} is step ${count(best.step)} with ${percent(best.value)}; on rollouts that did not choose it the best has ${percent(best.fresh.value)} ${limits(best.fresh.low, best.fresh.high, percent)}.` : "";
    return `${lostWords}${share}${bestWords}`;
  },
};

const turnoverAt = (chart) => chosenSeries(chart).result.turnover.find((each) => each.k === chosen(chart, "k"));

// The largest budget at which no checkpoint's chance comes from a model.
function testedBudget() {
  const tested = chosenSeries(turnover).result.turnover.filter((each) => each.checkpoints.every((point) => !point.forgotten?.modelled));
  return tested.at(-1)?.k;
}

// Ribbons from one checkpoint to the next: the state whose colour each has, and its limits on the left and on the right.
function flows(from, to) {
  const [solved, forgotten, never] = [from.solved.value, from.forgotten?.number ?? 0, from.never];
  const kept = solved - to.lost, still = forgotten - to.regained, first = to.first.number;
  const top = { left: solved + forgotten, right: to.solved.value + to.forgotten.number };
  return [
    ["solved", 0, kept, 0, kept],
    ["forgotten", kept, solved, to.solved.value, to.solved.value + to.lost],
    ["solved", solved, solved + to.regained, kept, kept + to.regained],
    ["forgotten", solved + to.regained, solved + forgotten, to.solved.value + to.lost, to.solved.value + to.lost + still],
    ["solved", top.left, top.left + first, kept + to.regained, to.solved.value],
    ["never solved", top.left + first, top.left + never, top.right, top.right + to.never],
  ].filter(([, low, high]) => high - low > 1e-9);
}

function ribbon(left, right, low, high, lowRight, highRight) {
  const middle = (left + right) / 2;
  return `M${left},${low} C${middle},${low} ${middle},${lowRight} ${right},${lowRight} L${right},${highRight} C${middle},${highRight} ${middle},${high} ${left},${high} Z`;
}

function turnoverWords(each) {
  const lines = [`<b>step ${count(each.step)}</b>`, `${each.what}: ${decimal(each.value, 4)} ${known(each.low) ? limits(each.low, each.high, (value) => decimal(value, 4)) : ""}`];
  if (each.what === "solved" && known(each.first)) lines.push(`first solved here ${decimal(each.first)}, by chance ${decimal(each.first_by_chance)}`, `regained ${decimal(each.regained)}`);
  if (each.what === "forgotten" && known(each.by_chance)) lines.push(`by chance ${decimal(each.by_chance)}${known(each.p_holm) ? `, ${pValue(each.p_holm)}` : ""}`, `lost since the last checkpoint ${decimal(each.lost)}`);
  return [...lines, `k = ${count(each.k)}, ${plural(each.n_problems, "problem")}`].join("<br>");
}

const outcomeEntropy = {
  ...ofSeries,
  id: "outcome-entropy",
  title: "Entropy of correct and wrong rollouts over training",
  explain: "Whether the policy becomes certain of correct answers sooner than of wrong ones. Wrong rollouts are often longer, so compare them matched in length too.",
  controls: [seriesControl, { key: "matched", label: "rollouts", options: () => [["plain", "as drawn"], ...(runs().some((run) => estimates(run, metricOf("entropy"), "correct, length-matched").length) ? [["matched", "matched in length"]] : [])] }],
  empty: STATISTICS,
  rows(chart) {
    const kinds = chosen(chart, "matched") === "matched" ? [["correct", "correct, length-matched"], ["wrong", "wrong, length-matched"]] : [["all", null], ["correct", "correct"], ["wrong", "wrong"]];
    const shown = chosenSeries(chart).runs.filter((i) => !state.hidden.has(i));
    return kinds.flatMap(([kind, group]) => shown.flatMap((i) => estimates(runs()[i], metricOf("entropy"), group).filter((each) => known(each.value)).map((each) => row(i, each, { step: runs()[i].step, rollouts: kind, group: group ?? "all" }))));
  },
  figure(rows) {
    const data = KINDS.filter((kind) => rows.some((each) => each.rollouts === kind)).map((kind) => {
      const mine = rows.filter((each) => each.rollouts === kind);
      return { type: "scatter", mode: "lines+markers", name: kind, x: mine.map((each) => each.step), y: mine.map((each) => each.value), hoverinfo: "text", hovertext: mine.map((each) => hoverText(each, { what: () => `token entropy, ${each.group}` })), error_y: errorBars(mine, outcomeColour(kind)), line: { color: outcomeColour(kind), width: 2, dash: kind === "all" ? "dot" : "solid" }, marker: { color: outcomeColour(kind), size: 7, symbol: KIND_SYMBOLS[kind] } };
    });
    return { data, layout: { height: 340, showlegend: true, legend: topLegend(), xaxis: { title: "training step" }, yaxis: { title: "entropy, nats", rangemode: "tozero" } } };
  },
};

const law = {
  ...ofSeries,
  id: "law",
  title: "Performance bought with entropy",
  explain: "pass@1 against mean token entropy H at every checkpoint, and the law pass@1 = −a·exp(H) + b fitted to them (arXiv 2505.22617). Its ceiling is at H = 0, when all entropy is spent. Open diamonds: predictions from the first third of the checkpoints, at the entropies of the later ones.",
  wide: true,
  controls: [seriesControl],
  empty: "Needs token entropy at checkpoints that differ in it.",
  rows(chart) {
    const series = chosenSeries(chart), found = series.result.law;
    if (!found) return [];
    const one = (what, more) => ({ series: series.series, what, step: null, entropy: null, value: null, low: null, high: null, level: null, predicted: null, n_problems: series.result.n_problems, method: "", ...more });
    const late = found.forecast?.n_fitted ?? Infinity;
    const points = found.entropy.map((entropy, j) => ({ ...one("checkpoint", { step: series.result.checkpoints[j].step, entropy, value: found.performance[j], predicted: found.forecast?.predicted[j - late] ?? null }), _run: series.runs[j] }));
    const fitted = [["a", found.a], ["b", found.b], ["ceiling", found.ceiling], ["predicted less actual at the end", found.forecast?.final_error]];
    return [...points, ...fitted.filter(([, each]) => each).map(([what, each]) => one(what, { value: each.value, low: each.low ?? null, high: each.high ?? null, level: each.level ?? 0.95, entropy: what === "ceiling" ? 0 : null, method: each.method }))];
  },
  figure(rows, chart) {
    const found = chosenSeries(chart).result.law;
    const seen = rows.filter((each) => each.what === "checkpoint"), predicted = seen.filter((each) => known(each.predicted)), top = rows.filter((each) => each.what === "ceiling");
    const x = Array.from({ length: 61 }, (_unused, j) => (1.06 * Math.max(...found.entropy) * j) / 60);
    const heights = [...seen, ...top].flatMap((each) => [each.value, each.low, each.high, each.predicted]).filter(known).map((value) => Math.min(Math.max(value, 0), 1)); // a law that does not hold leaves [0, 1]
    const text = (each, value, word) => `<b>${esc(runs()[each._run].short)}</b><br>${word} ${percent(value)} at entropy ${decimal(each.entropy)}<br>${plural(each.n_problems, "problem")}`;
    return {
      data: [
        { type: "scatter", mode: "lines", name: "law", x, y: x.map((entropy) => found.b.value - found.a.value * Math.exp(entropy)), line: { color: css("--soft"), width: 1.5, dash: "dot" }, hoverinfo: "skip" },
        { type: "scatter", mode: "markers", name: "checkpoints", x: seen.map((each) => each.entropy), y: seen.map((each) => each.value), marker: { size: 10, color: seen.map((each) => colour(each._run)) }, hoverinfo: "text", hovertext: seen.map((each) => text(each, each.value, "pass@1")) },
        { type: "scatter", mode: "markers", name: "predicted", x: predicted.map((each) => each.entropy), y: predicted.map((each) => each.predicted), marker: { size: 10, symbol: "diamond-open", color: css("--ink"), line: { width: 1.5 } }, hoverinfo: "text", hovertext: predicted.map((each) => text(each, each.predicted, "predicted pass@1")) },
        { type: "scatter", mode: "markers", name: "ceiling", x: top.map(() => 0), y: top.map((each) => each.value), error_y: errorBars(top, css("--accent")), marker: { size: 10, symbol: "square", color: css("--accent") }, hoverinfo: "text", hovertext: top.map((each) => `ceiling ${percent(each.value)} ${limits(each.low, each.high, percent)}<br>${plural(each.n_problems, "problem")}`) },
      ],
      layout: { height: 380, showlegend: true, legend: topLegend(), xaxis: { title: "token entropy H, nats", range: [-0.02 * x.at(-1), x.at(-1)] }, yaxis: { title: "pass@1", tickformat: ".0%", range: [Math.min(...heights) - 0.03, Math.max(...heights) + 0.03] } },
    };
  },
  says(rows, chart) {
    const found = chosenSeries(chart).result.law;
    const one = (each, format) => `${format(each.value)} ${limits(each.low, each.high, format)}`;
    const fit = `a = ${one(found.a, decimal)}, b = ${one(found.b, decimal)}; ceiling ${one(found.ceiling, percent)}${known(found.r_squared) ? `; R² = ${found.r_squared.toFixed(2)}` : ""}.`;
    const forecast = found.forecast, broken = found.ceiling.value < 0 || found.ceiling.value > 1 ? " No pass@1 has such a value: the law does not hold for these checkpoints." : "";
    const forecastWords = forecast ? ` Predicted from the first ${forecast.n_fitted}: off by ${decimal(100 * forecast.rmse, 2)} points on average (root mean square), ${decimal(100 * forecast.rmse_unchanged, 2)} for no further change; at the end ${one(forecast.final_error, points)} points.` : ` ${sentence(found.note ?? "no forecast")}`;
    return `${fit}${broken}${forecastWords} Intervals at 95 % hold for other problems of the kind, not for another training run.`;
  },
};
