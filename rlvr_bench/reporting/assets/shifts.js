// Where probability moved between two checkpoints (rescore), and what single tokens decide (intervene).

// The cards of a section share the choice of what they show.
const shiftChoice = { rescoring: 0, by: "entropy", place: "share_of_moves", measure: null, tokens: "share" };
const ofShifts = { choice: shiftChoice, present: (each) => each.rescorings.length > 0 };
const shownOf = (list) => list.map((each, j) => [each, j]).filter(([each]) => !state.hidden.has(each.run));
const rescoringName = (each) => `${runs()[each.run].short} under ${each.result.other.model}`;
// The name of the folder distinguishes two results of one run that would have the same text.
function nameOf(list, each, words) {
  const alike = list.filter((other) => words(other) === words(each)).length > 1;
  return alike ? `${words(each)} (${each.name})` : words(each);
}
const pickFrom = (key, label, list, words) => ({ key, label, shared: true, options: () => shownOf(list()).map(([each, j]) => [j, clip(nameOf(list(), each, words), 70)]) });
const rescoringControl = pickFrom("rescoring", "rescoring", () => task().rescorings, rescoringName);
const chosenRescoring = (chart) => task().rescorings[chosen(chart, "rescoring")];

const rescoringRow = (each, estimate, more) => ({ ...row(each.run, estimate, { rescored_under: each.result.other.model, folder: each.name, ...more }), _name: nameOf(task().rescorings, each, rescoringName) });

function rescoringWords({ name, result }) {
  const exact = result.divergence === "exact" ? "KL exact over the vocabulary" : "KL estimated from the drawn tokens";
  return `Own: ${clip(result.own.model, 80)}, which drew the rollouts; other: ${clip(result.other.model, 80)} (${clip(name, 80)}). ${plural(result.n_problems, "problem")}, ${plural(result.n_rollouts, "rollout")}, ${plural(result.n_tokens, "token")}; ${exact}; moved: probability changed by more than ${decimal(result.threshold)}.${result.notes.map((note) => ` Note: ${note}.`).join("")}`;
}

// Estimate -> words, axis, and how its numbers are written.
const DIVERGENCES = {
  kl: ["KL(own || other), exact", "nats per token", decimal],
  kl_k1: ["KL(own || other) from the drawn tokens (k1)", "nats per token", decimal],
  kl_k3: ["KL(own || other) from the drawn tokens (k3)", "nats per token", decimal],
  kl_reverse: ["KL(other || own), exact", "nats per token", decimal],
  kl_per_response: ["KL per response", "nats per response", decimal],
  moved_share: ["tokens whose probability moved", "share of tokens", percent],
  log_ratio: ["log other − log own", "nats per token", signed],
  own_perplexity: ["perplexity under own", "perplexity", decimal],
  other_perplexity: ["perplexity under other", "perplexity", decimal],
  own_log_perplexity: ["log perplexity under own", "nats per token", decimal],
  other_log_perplexity: ["log perplexity under other", "nats per token", decimal],
};
// The estimates of every rescoring come first; an exact divergence is not in all of them.
function divergenceNames() {
  const number = (name) => task().rescorings.filter((each) => each.result.estimates.some((one) => one.name === name)).length;
  const found = Object.keys(DIVERGENCES).filter(number);
  return [...found.filter((name) => number(name) === task().rescorings.length), ...found.filter((name) => number(name) < task().rescorings.length)];
}

const divergence = {
  ...ofShifts,
  id: "divergence",
  title: "How far apart are the two checkpoints?",
  explain: "A run's own rollouts, read by another checkpoint. KL is 0 where both give every token the same probability; correct and wrong rollouts apart.",
  controls: [{ key: "measure", label: "measure", options: () => divergenceNames().map((name) => [name, DIVERGENCES[name][0]]) }],
  rows: () => shownOf(task().rescorings).flatMap(([each, j]) => divergenceNames().flatMap((name) => each.result.estimates.filter((one) => one.name === name).map((one) => ({ ...rescoringRow(each, one, { measure: name, rollouts: one.group ?? "all" }), _at: j })))),
  figure(rows, chart) {
    const measure = chosen(chart, "measure"), [words, title, format] = DIVERGENCES[measure];
    const mine = rows.filter((each) => each.measure === measure);
    return dots(mine, { by: "rollouts", kinds: KINDS.filter((kind) => mine.some((each) => each.rollouts === kind)), at: (each) => each._at, names: (j) => nameOf(task().rescorings, task().rescorings[j], rescoringName), letters: 44, title, format, tickformat: format === percent ? ".0%" : undefined, zero: true, what: (each) => `${words}, ${each.rollouts} rollouts` });
  },
  says: (rows, chart) => `${standardNote(rows)} ${shownOf(task().rescorings).length > 1 ? `Every measure is in the table.${[...new Set(shownOf(task().rescorings).flatMap(([each]) => each.result.notes))].map((note) => ` Note: ${note}.`).join("")}` : rescoringWords(shownOf(task().rescorings)[0][0])}`,
};

const FOUR = [["own_on_own", "own on own"], ["other_on_own", "other on own"], ["other_on_other", "other on other"], ["other_on_reference", "other on reference"]];

const perplexities = {
  ...ofShifts,
  id: "perplexities",
  title: "The four perplexities",
  explain: "After arXiv 2504.13837: how surprised a checkpoint is by a text (reference: the task's own solutions). If other on own is as low as other on other, what the trained checkpoint writes was within easy reach of the other one.",
  controls: [rescoringControl],
  rows(chart) {
    const each = chosenRescoring(chart);
    if (!each) return [];
    const why = (key) => each.result.notes.find((note) => note.startsWith(`${key}:`)) ?? "not computed";
    return FOUR.map(([key, words]) => rescoringRow(each, each.result.perplexities[key] ?? { value: null, level: null, note: `absent: ${why(key)}` }, { perplexity: words, _key: key }));
  },
  figure: (rows) => dots(rows.map((each) => ({ ...each, kind: "perplexity" })), { by: "kind", kinds: ["perplexity"], colours: [colour(rows[0]._run)], symbols: ["circle"], at: (each) => each.perplexity, names: (name) => name, letters: 36, title: "perplexity (1: certain of every token)", what: (each) => each.perplexity }),
  says(rows) {
    const absent = rows.filter((each) => !known(each.value)).map((each) => ` ${each.perplexity}: ${each.note}.`).join("");
    return `${standardNote(rows.filter((each) => known(each.value)))}${absent}`;
  },
};

const PLACES = {
  entropy: ["tenth of token entropy", "tenths of token entropy, low to high"],
  position: ["tenth of the response", "tenths of the response, first to last"],
  perplexity: ["fifth of the rollouts by perplexity", "fifths of perplexity, low to high"],
  category: ["token category", "token category"],
};
const PLACE_MEASURES = {
  moved: ["share of these tokens that moved", percent],
  share_of_moves: ["share of all moves", percent],
  share: ["share of all tokens", percent],
  log_ratio: ["log other − log own, nats", signed],
};
const strataOf = (each, by) => each.result.strata.filter((one) => one.by === by);
const stratumRow = (each, one, key, more) => rescoringRow(each, one[key], { [one.by]: one.bin, from: one.low, to: one.high, rollouts: one.group, tokens: one.n_tokens, tokens_moved: one.n_moved, measure: key, _bin: one.bin, ...more });

const moves = {
  ...ofShifts,
  id: "moves",
  title: "Where the moves are",
  explain: "Classes of tokens: by how undecided the policy was, by position in the response, by how usual the whole rollout was, or by kind of token. A share of moves above the dotted share of tokens means that moves are frequent there.",
  wide: true,
  controls: [
    rescoringControl,
    { key: "by", label: "tokens by", options: () => Object.entries(PLACES).filter(([by]) => task().rescorings.some((each) => strataOf(each, by).length)).map(([by, [label]]) => [by, label]) },
    { key: "place", label: "measure", options: () => Object.entries(PLACE_MEASURES).map(([name, [label]]) => [name, label]) },
  ],
  rows(chart) {
    const each = chosenRescoring(chart);
    return each ? strataOf(each, chosen(chart, "by")).map((one) => stratumRow(each, one, chosen(chart, "place"))) : [];
  },
  figure(rows, chart) {
    const by = chosen(chart, "by"), measure = chosen(chart, "place"), [words, format] = PLACE_MEASURES[measure];
    const bins = [...new Set(rows.map((each) => each._bin))];
    const span = (each) => (known(each.from) ? ` (${decimal(each.from, 2)} to ${decimal(each.to, 2)})` : "");
    const data = KINDS.map((kind, j) => {
      const mine = rows.filter((each) => each.rollouts === kind && known(each.value));
      return { type: "scatter", mode: by === "category" ? "markers" : "lines+markers", name: kind, x: mine.map((each) => bins.indexOf(each._bin) + 0.07 * (j - 1)), y: mine.map((each) => each.value), error_y: errorBars(mine, outcomeColour(kind)), line: { color: outcomeColour(kind), width: 1.5 }, marker: { color: outcomeColour(kind), size: 8, symbol: KIND_SYMBOLS[kind] }, hoverinfo: "text", hovertext: mine.map((each) => hoverText(each, { format, what: () => `${PLACES[by][0]} ${each._bin}${span(each)}, ${words}, ${kind} rollouts` })) };
    });
    const even = measure === "share_of_moves" ? strataOf(chosenRescoring(chart), by).filter((one) => one.group === "all") : [];
    if (even.length) data.unshift({ type: "scatter", mode: "lines+markers", name: "share of tokens", x: even.map((one) => bins.indexOf(one.bin)), y: even.map((one) => one.share.value), line: { color: css("--soft"), width: 1.5, dash: "dot" }, marker: { color: css("--soft"), size: 5 }, hoverinfo: "skip" });
    const labels = bins.map((bin) => (by === "category" ? esc(bin, 40).replace(/ /g, narrow() ? "<br>" : " ") : esc(bin.replace(/ of \d+$/, ""), 20)));
    return { data, layout: { height: 380, showlegend: true, legend: topLegend(), xaxis: { title: PLACES[by][1], tickvals: bins.map((_, j) => j), ticktext: labels, range: [-0.5, bins.length - 0.5], showgrid: false, zeroline: false }, yaxis: { title: words, tickformat: format === percent ? ".0%" : undefined, rangemode: "tozero" } } };
  },
  says(rows, chart) {
    const each = chosenRescoring(chart), by = chosen(chart, "by");
    const all = strataOf(each, by).filter((one) => one.group === "all" && known(one.share_of_moves.value));
    const most = all.reduce((best, one) => (one.share_of_moves.value > best.share_of_moves.value ? one : best), all[0]);
    const words = most ? ` Most moves are in ${PLACES[by][0]} "${clip(most.bin, 60)}": ${percent(most.share_of_moves.value)} of them, with ${percent(most.share.value)} of the tokens.` : " No token moved.";
    return `${standardNote(rows)}${words} ${rescoringWords(each)}`;
  },
};

// The measures of a category: [words, axis, format, [[key of the stratum, group, kind], ...]].
const OWN = "under own", OTHER = "under other";
const CATEGORY_MEASURES = {
  share: ["share of tokens", "share of tokens", percent, KINDS.map((kind) => ["share", kind, kind])],
  entropy: ["token entropy", "entropy, nats", decimal, [["own_entropy", "all", OWN], ["other_entropy", "all", OTHER]]],
  branching: ["branching factor", "tokens that hold 95 % of the probability", decimal, [["own_branching", "all", OWN], ["other_branching", "all", OTHER]]],
};

const categories = {
  ...ofShifts,
  id: "categories",
  title: "Kinds of tokens",
  explain: "The classes of arXiv 2508.02260 and 2508.07534, which publish no rules. The rules are those of rlvr-bench: English words, numbers and signs, with any tokenizer; everything else is semantic support.",
  wide: true,
  controls: [rescoringControl, { key: "tokens", label: "measure", options: () => Object.entries(CATEGORY_MEASURES).map(([name, [label]]) => [name, label]) }],
  empty: "This rescoring has no token categories.",
  rows(chart) {
    const each = chosenRescoring(chart);
    if (!each) return [];
    const strata = strataOf(each, "category");
    return Object.entries(CATEGORY_MEASURES).flatMap(([measure, [, , , kinds]]) => kinds.flatMap(([key, group, kind]) => strata.filter((one) => one.group === group).map((one) => stratumRow(each, one, key, { measure, kind }))));
  },
  figure(rows, chart) {
    const measure = chosen(chart, "tokens"), [words, title, format, kinds] = CATEGORY_MEASURES[measure];
    const colours = kinds.map(([, , kind]) => (kind === OWN ? colour(rows[0]._run) : kind === OTHER ? css("--soft") : outcomeColour(kind)));
    const symbols = kinds.map(([, , kind]) => ({ [OWN]: "circle", [OTHER]: "diamond-open" })[kind] ?? KIND_SYMBOLS[kind]);
    return dots(rows.filter((each) => each.measure === measure), { by: "kind", kinds: kinds.map(([, , kind]) => kind), colours, symbols, at: (each) => each._bin, names: (bin) => bin, letters: 36, title, format, tickformat: format === percent ? ".0%" : undefined, rangemode: measure === "branching" ? "normal" : "tozero", what: (each) => `${each._bin}, ${words}, ${each.kind}` });
  },
  says: (rows, chart) => `${standardNote(rows)} Rules version ${clip(chosenRescoring(chart).result.category_rules, 20)}. ${clip(rescoringName(chosenRescoring(chart)), 120)}.`,
};

const swapName = (each) => `${runs()[each.run].short}, ${each.result.design.swap} by ${each.result.design.strata.join(", ")}`;
const levelWords = (levels) => Object.entries(levels).map(([factor, level]) => (factor === "position" ? level : `${level} ${factor}`));
const stratumWords = (levels) => levelWords(levels).join(", ") || "all tokens";
const SWAP_RULES = { second: "for the most likely other token", nucleus: "for another token of the 0.95 nucleus", same: "for itself (a check: nothing may change)" };

const swaps = {
  id: "swaps",
  choice: { swaps: 0, show: "effect" },
  present: (each) => each.interventions.length > 0,
  title: "What swapping one token does to the answer",
  explain: "One token of a response is swapped, and the same checkpoint continues the response; for comparison it also continues with the original token. The effect is accuracy with the swapped token less accuracy with the kept one, in points: below zero, the token mattered. Where accuracy is already near zero, there is nothing to lose.",
  wide: true,
  controls: [pickFrom("swaps", "interventions", () => task().interventions, swapName), { key: "show", label: "show", options: () => [["effect", "effect"], ["accuracy", "accuracy with both tokens"]] }],
  rows(chart) {
    const each = task().interventions[chosen(chart, "swaps")];
    if (!each) return [];
    return each.result.effects.map((one) => ({ _run: each.run, _name: nameOf(task().interventions, each, swapName), checkpoint: runs()[each.run].label, folder: each.name, tokens_of: stratumWords(one.levels), tokens: one.n_sites, accuracy_kept: one.kept, accuracy_swapped: one.swapped, value: one.effect, low: one.low, high: one.high, level: one.level, p_value: one.p_value, p_holm: one.p_holm, probability_kept: one.kept_probability, probability_swapped: one.swapped_probability, n_problems: one.n_problems, method: one.method, note: known(one.effect) ? "" : "absent: no token of this kind", _levels: one.levels }));
  },
  figure(rows, chart) {
    const lineOptions = { at: (each) => each.tokens_of, names: (name) => (narrow() ? name.replace(/(high|low) (\w+),/g, (_, level, factor) => `${factor === "perplexity" ? "ppl" : factor} ${level === "high" ? "↑" : "↓"},`) : name), letters: 42 };
    if (chosen(chart, "show") === "accuracy") {
      const both = rows.flatMap((each) => [{ ...each, kind: "kept", value: each.accuracy_kept, low: null, high: null }, { ...each, kind: "swapped", value: each.accuracy_swapped, low: null, high: null }]);
      return dots(both, { ...lineOptions, by: "kind", kinds: ["kept", "swapped"], colours: [css("--soft"), css("--accent")], symbols: ["circle-open", "circle"], title: "accuracy of the continuations", tickformat: ".0%", rangemode: "tozero", format: percent, what: (each) => `${each.tokens_of}, ${each.kind}, ${plural(each.tokens, "token")}` });
    }
    const kinds = ["all tokens", "one factor", "all factors crossed"], factors = Math.max(...rows.map((each) => Object.keys(each._levels).length));
    const kindOf = (each) => kinds[!Object.keys(each._levels).length ? 0 : Object.keys(each._levels).length < factors || factors === 1 ? 1 : 2];
    const marked = rows.map((each) => ({ ...each, kind: kindOf(each) })), present = kinds.filter((kind) => marked.some((each) => each.kind === kind));
    return dots(marked, { ...lineOptions, by: "kind", kinds: present, level: true, colours: present.map((kind) => (kind === kinds[2] ? css("--bar") : css("--accent"))), symbols: present.map((kind) => ({ [kinds[0]]: "diamond", [kinds[1]]: "circle", [kinds[2]]: "circle-open" })[kind]), title: "effect on accuracy, points", tickformat: "+.0%", zero: true, format: points, what: (each) => `${each.tokens_of}: ${plural(each.tokens, "token")}, ${percent(each.accuracy_kept)} kept, ${percent(each.accuracy_swapped)} swapped, effect` });
  },
  says(rows, chart) {
    const { name, result } = task().interventions[chosen(chart, "swaps")], { design } = result;
    const clear = rows.filter((each) => known(each.p_holm) && each.p_holm < 0.05).sort((a, b) => a.value - b.value);
    const finest = rows.filter((each) => known(each.p_holm)).length;
    const found = clear.length ? `Shown to change the answer (corrected over ${plural(finest, "stratum").replace("stratums", "strata")}, p < 0.05): ${clear.slice(0, 3).map((each) => `${each.tokens_of} (${points(each.value)} ${limits(each.low, each.high, points)})`).join("; ")}${clear.length > 3 ? "; …" : ""}.` : `No stratum is shown to change the answer${finest ? ` (corrected over ${finest})` : ""}.`;
    const lost = [result.no_alternative ? ` ${plural(result.no_alternative, "token")} had no alternative and are left out.` : "", result.undecided ? ` ${plural(result.undecided, "continuation")} could not be verified and are left out.` : ""].join("");
    return `${found} ${plural(result.n_sites, "token")} of ${clip(result.model, 80)} swapped ${SWAP_RULES[design.swap] ?? clip(design.swap, 20)}, ${plural(design.repeats, "continuation")} of each (${clip(name, 80)}, protocol version ${clip(design.protocol, 20)}).${lost} Intervals at 95 %, clustered by problem.`;
  },
};
