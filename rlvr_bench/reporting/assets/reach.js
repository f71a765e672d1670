// What the checkpoints reach: pass@k and what follows from it.

const largestK = () => Math.max(...task().ks, 1);

const passAtK = {
  id: "pass-at-k",
  title: "pass@k",
  explain: "The chance that at least one of k attempts at a problem is right, averaged over problems. Left: what a single attempt gives. Right: what a checkpoint can reach when it may try often.",
  wide: true,
  controls: [
    { key: "bands", label: "95 % bands", initial: true },
    { key: "log", label: "logarithmic k", initial: true },
    { key: "crossings", label: "crossovers", initial: true },
  ],
  rows: () => passRows(),
  figure(all, chart) {
    const rows = all.filter((each) => known(each.value));
    const data = lines(rows, { x: "k", bands: chosen(chart, "bands"), format: percent, what: (each) => `pass@${count(each.k)}` });
    data.push(...boundLines(all));
    if (chosen(chart, "crossings")) data.push(...crossings(rows));
    const ends = beyond(rows);
    data.push(...ends.map(([trace]) => trace));
    const most = Math.max(...all.map((each) => each.k), ...ends.map(([, k]) => k));
    return { data, layout: { height: narrow() ? 340 : 460, showlegend: !narrow(), xaxis: chosen(chart, "log") ? logAxis("k, attempts per problem", most) : { title: "k, attempts per problem", rangemode: "tozero" }, yaxis: { title: "problems solved", tickformat: ".0%", range: [0, Math.min(1.02, 1.08 * Math.max(...all.map((each) => each.high ?? each.value)))] } } };
  },
  says(rows) {
    const crossed = shownRuns().filter((i) => known(pairOf(i)?.crossover.k));
    const words = crossed.length ? ` Crosses mark where a checkpoint's curve and that of ${runs()[state.baseline].short} change places, with the interval of that k.` : "";
    const dashed = beyond(rows).length ? " Dashed: extrapolated beyond n by a fitted curve, not measured." : "";
    const bounded = rows.some((each) => !known(each.value)) ? " Dotted: bounds, at budgets for which some problems lack rollouts." : "";
    return standardNote(rows) + words + bounded + dashed;
  },
};

// From the end of each curve to its extrapolation, dashed, with the interval at its end; each with its k.
function beyond(rows) {
  return shownRuns().flatMap((i) => {
    const last = rows.filter((each) => each._run === i && known(each.value)).at(-1);
    return last === undefined ? [] : estimates(runs()[i], "extrapolated_pass@k").filter((each) => known(each.value)).map((each) => [{
      type: "scatter", mode: "lines", showlegend: false, hoverinfo: "text", line: { color: colour(i), width: 2, dash: "dash" }, x: [last.k, each.k], y: [last.value, each.value],
      hovertext: ["", `<b>${esc(runs()[i].short)}</b><br>extrapolated, not measured: pass@${count(each.k)} ${percent(each.value)} ${limits(each.low, each.high, percent)}<br>${esc(each.method, 120)}`],
      error_y: { type: "data", symmetric: false, array: [0, each.high - each.value], arrayminus: [0, each.value - each.low], thickness: 1.5, width: 4, color: colour(i) },
    }, each.k]);
  });
}

// pass@k of every budget: a value, or where rollouts are missing bounds alone.
function passRows() {
  return shownRuns().flatMap((i) => estimates(runs()[i], "pass@k")
    .filter((each) => known(each.value) || known(each.at_least))
    .map((each) => row(i, each, known(each.at_least) ? { k: each.k, at_least: each.at_least, at_most: each.at_most } : { k: each.k })));
}

// The lower and the upper bound of each run as dotted lines.
function boundLines(rows) {
  return shownRuns().flatMap((i) => ["at_least", "at_most"].flatMap((side) => {
    const mine = rows.filter((each) => each._run === i && known(each[side]));
    if (!mine.length) return [];
    const text = (each) => `<b>${esc(runs()[i].short)}</b><br>pass@${count(each.k)}: ${range([each.at_least, each.at_most], percent)}<br>${esc(each.note || "errors all wrong, all right", 120)}`;
    return [{ type: "scatter", mode: "lines+markers", x: mine.map((each) => each.k), y: mine.map((each) => each[side]), line: { color: colour(i), width: 1, dash: "dot" }, marker: { color: colour(i), size: 4 }, hoverinfo: "text", hovertext: mine.map(text), showlegend: false, name: "bounds" }];
  }));
}

// Where the curves of the baseline and another run change places, on the other run's curve.
function crossings(rows) {
  const marks = shownRuns().flatMap((i) => {
    const crossing = pairOf(i)?.crossover;
    const curve = rows.filter((each) => each._run === i);
    if (!crossing || !known(crossing.k) || !curve.length || state.hidden.has(state.baseline)) return [];
    const y = onCurve(curve, crossing.k);
    const top = crossing.high ?? crossing.largest_k;
    const text = `<b>${esc(runs()[i].short)}</b> and ${esc(runs()[state.baseline].short)}<br>${esc(crossing.text, 120)}<br>${esc(crossing.leader ?? "")} leads below; 95 % interval, ${plural(task().problems.length, "problem")}`;
    return [
      { type: "scatter", mode: "lines", x: [crossing.low ?? crossing.k, top], y: [y, y], line: { color: css("--ink"), width: 1, dash: "dot" }, hoverinfo: "skip", showlegend: false },
      { type: "scatter", mode: "markers", x: [crossing.k], y: [y], marker: { symbol: "x-thin", size: 11, line: { color: css("--ink"), width: 2 } }, hoverinfo: "text", hovertext: [text], showlegend: false, name: "crossover" },
    ];
  });
  return marks;
}

function onCurve(curve, k) {
  const above = curve.findIndex((each) => each.k >= k);
  if (above <= 0) return curve[Math.max(above, 0)].value;
  const [low, high] = [curve[above - 1], curve[above]];
  const share = (Math.log(k) - Math.log(low.k)) / (Math.log(high.k) - Math.log(low.k));
  return low.value + share * (high.value - low.value);
}

const difference = {
  id: "difference",
  title: "Difference from the baseline",
  explain: "pass@k less that of the baseline, on the same problems. Where the band excludes zero, the choice of problems alone does not explain the difference.",
  wide: true,
  controls: [{ key: "bands", label: "95 % bands", initial: true }, { key: "log", label: "logarithmic k", initial: true }],
  empty: "Needs at least two runs.",
  rows: () => shownRuns().flatMap((i) => (pairOf(i)?.differences ?? []).filter(([name, , value]) => name === "pass@k" && known(value)).map(([, k, value, low, high, p, problems]) => ({
    _run: i, checkpoint: runs()[i].label, baseline: runs()[state.baseline].label, k, value, low, high, level: 0.95, p_holm: p, n_problems: problems, n_rollouts: Math.min(runs()[i].n_min, runs()[state.baseline].n_min),
  }))),
  figure(rows, chart) {
    const format = (value) => points(value);
    const data = lines(rows, { x: "k", bands: chosen(chart, "bands"), format, what: (each) => `pass@${count(each.k)} less the baseline's, in points` });
    const most = Math.max(...rows.map((each) => each.k));
    return { data, layout: { height: narrow() ? 300 : 340, xaxis: chosen(chart, "log") ? logAxis("k, attempts per problem", most) : { title: "k, attempts per problem" }, yaxis: { title: "points of pass@k", tickformat: "+.0%", zeroline: true, zerolinewidth: 2, zerolinecolor: css("--soft") } } };
  },
  says: (rows) => `${standardNote(rows)} Baseline: ${runs()[state.baseline].short}.`,
};

const tiers = {
  id: "tiers",
  title: "pass@k by difficulty",
  explain: "The same within each tier of the task: where gains and losses are.",
  wide: true,
  controls: [{ key: "k", label: "attempts k", initial: null, options: () => task().ks.map((k) => [k, count(k)]), pick: (options) => options[0][0] }],
  empty: "This task has one tier only.",
  rows: (chart) => rowsOf("tier_pass@k", (each) => ({ tier: each.group, k: each.k })).filter((each) => each.k === chosen(chart, "k")),
  figure(rows) {
    const names = [...new Set(rows.map((each) => each.tier))];
    const order = [...new Set(rows.map((each) => each._run))];
    const data = order.map((i, j) => {
      const mine = rows.filter((each) => each._run === i);
      return {
        type: "scatter", mode: "markers", name: esc(runs()[i].short), hoverinfo: "text", hovertext: mine.map((each) => hoverText(each, { format: percent, what: () => `${each.tier}, pass@${count(each.k)}` })),
        x: mine.map((each) => names.indexOf(each.tier) + (order.length > 1 ? (j / (order.length - 1) - 0.5) * 0.6 : 0)), y: mine.map((each) => each.value),
        error_y: { type: "data", symmetric: false, array: mine.map((each) => each.high - each.value), arrayminus: mine.map((each) => each.value - each.low), thickness: 1.2, width: 0, color: colour(i) },
        marker: { color: colour(i), size: 7, symbol: symbol(i) },
      };
    });
    return { data, layout: { height: 340, xaxis: { tickvals: names.map((_, j) => j), ticktext: names.map((name) => esc(name, 18)), range: [-0.5, names.length - 0.5], showgrid: false }, yaxis: { title: "problems solved", tickformat: ".0%", rangemode: "tozero" } } };
  },
};

const cover = {
  id: "cover",
  title: "Cover@τ",
  explain: "The share of problems that a checkpoint solves with a chance of at least τ per attempt: reach at the left, reliability at the right.",
  controls: [
    { key: "kind", label: "from", initial: "cover_posterior", options: () => [["cover_posterior", "posterior (Jeffreys)"], ["cover", "observed rate c/n"]].filter(([name]) => has(name)) },
    { key: "bands", label: "95 % bands", initial: true },
  ],
  rows: (chart) => rowsOf(chosen(chart, "kind") ?? "cover_posterior", (each) => ({ tau: Number(each.group.replace("tau=", "")) })),
  figure: (rows, chart) => ({
    data: lines(rows, { x: "tau", bands: chosen(chart, "bands"), format: percent, what: (each) => `solve rate at least ${each.tau}` }),
    layout: { height: 340, xaxis: { title: "τ, solve rate per attempt", range: [-0.02, 1.02] }, yaxis: { title: "share of problems", tickformat: ".0%", rangemode: "tozero" } },
  }),
};

const guess = {
  id: "guess",
  title: "What guessing would reach",
  explain: "pass@k of guesses that know nothing of the problem (dotted), and the real one. Where the two are close, many attempts search the answers instead of solving.",
  controls: [{ key: "group", label: "guesses", initial: "own answers", options: () => [["own answers", "the run's own wrong answers"], ["uniform", "uniform over the answer space"]].filter(([name]) => runs().some((run) => estimates(run, metricOf("guess"), name).length)) }],
  empty: "These scorecards have no guessing control.",
  rows(chart) {
    const guesses = rowsOf(metricOf("guess"), (each) => ({ what: `guess@k, ${each.group}`, k: each.k }), chosen(chart, "group") ?? "own answers");
    return guesses.length ? [...guesses, ...rowsOf("pass@k", (each) => ({ what: "pass@k", k: each.k }))] : [];
  },
  figure(rows) {
    const options = { x: "k", format: percent, what: (each) => `${each.what} at k = ${count(each.k)}` };
    const real = lines(rows.filter((each) => each.what === "pass@k"), options);
    const guessed = lines(rows.filter((each) => each.what !== "pass@k"), { ...options, dash: "dot" });
    for (const trace of guessed) trace.showlegend = false;
    return { data: [...real, ...guessed], layout: { height: 340, xaxis: logAxis("k, attempts per problem", Math.max(...rows.map((each) => each.k))), yaxis: { title: "problems solved", tickformat: ".0%", rangemode: "tozero" } } };
  },
};
