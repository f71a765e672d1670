// The head of the page: what was measured, the findings, a row per checkpoint, and the meaning of the words.

const summaryK = () => [...new Set(task().headline)];

function facts() {
  const all = runs();
  const same = (name) => new Set(all.map((run) => run.settings[name])).size === 1 && all[0].settings[name];
  const least = Math.min(...all.map((run) => run.n_min)), most = Math.max(...all.map((run) => run.n_max));
  const parts = [plural(all.length, "checkpoint"), plural(task().problems.length, "problem"), `${least === most ? count(least) : `${count(least)} to ${count(most)}`} rollouts each`];
  if (same("sampling")) parts.push(same("sampling").split(", ").filter((each) => /temperature|top_p/.test(each)).join(", "));
  if (same("prompt")) parts.push(`prompt ${same("prompt")}`);
  return parts.join(" · ");
}

const differenceAt = (i, name, k) => pairOf(i)?.differences.find(([metric, budget]) => metric === name && budget === k);
const verdict = (found) => (!found || !known(found[5]) ? null : found[5] >= 0.05 ? "cannot tell" : found[2] > 0 ? "higher" : "lower");

// Sentences that hold for these runs, from the corrected tests only.
function findings() {
  const others = runs().map((_, i) => i).filter((i) => i !== state.baseline && pairOf(i));
  const base = runs()[state.baseline];
  const sentences = [];
  for (const k of summaryK()) {
    const best = bestAt(k);
    if (best === null) continue;
    const at = `With ${plural(k, "attempt")}`;
    const lead = `${at} ${runs()[best.i].short} solves most: ${percent(best.value)} ${limits(best.low, best.high, percent)}.`;
    if (!others.length) {
      sentences.push(`${at} ${runs()[best.i].short} solves ${percent(best.value)} ${limits(best.low, best.high, percent)} of the problems.`);
      continue;
    }
    sentences.push(`${lead} ${standing(others, k)}`);
  }
  const crossed = others.filter((i) => known(pairOf(i).crossover.k));
  if (crossed.length) sentences.push(`${plural(crossed.length, "checkpoint")} and ${base.short} change places as k grows (${crossed.slice(0, 3).map((i) => `${runs()[i].short}: ${pairOf(i).crossover.text}`).join("; ")}${crossed.length > 3 ? "; …" : ""}).`);
  const beyond = (side) => others.filter((i) => (pairOf(i)[side]?.p_holm ?? 1) < 0.05).length;
  if (others.length) sentences.push(`Solved problems at k = ${count(largestK())}, beyond what chance explains: ${count(beyond("gains"))} of ${count(others.length)} gained some that ${base.short} does not solve, ${count(beyond("losses"))} lost some that it solves.`);
  return sentences;
}

function standing(others, k) {
  const verdicts = others.map((i) => verdict(differenceAt(i, "pass@k", k)));
  const number = (word) => verdicts.filter((each) => each === word).length;
  const said = ["higher", "lower"].filter(number).map((word) => `${count(number(word))} of ${count(others.length)} shown to be ${word}`);
  if (number("cannot tell")) said.push(`${count(number("cannot tell"))} cannot be distinguished`);
  return `Compared with ${runs()[state.baseline].short}: ${said.join(", ")}.`;
}

function bestAt(k) {
  const found = runs().map((run, i) => ({ i, ...(estimates(run, "pass@k").find((each) => each.k === k) ?? {}) })).filter((each) => known(each.value));
  return found.length ? found.reduce((best, each) => (each.value > best.value ? each : best)) : null;
}

function summaryTable() {
  const heads = [["Checkpoint", "The model as it was named; the baseline is marked."]];
  for (const k of summaryK()) heads.push([`pass@${count(k)}`, `Chance that ${k === 1 ? "an attempt" : `at least one of ${plural(k, "attempt")}`} is right; below it the difference from the baseline in points.`]);
  if (task().pairs.length) heads.push(["crossover", "The k at which the checkpoint and the baseline change places, with its interval."], ["gained / lost", "Problems only the checkpoint or only the baseline solves, against what the same policy twice would show."]);
  heads.push([`unsolved in ${count(task().overlap_k)}`, `Problems that ${plural(task().overlap_k, "rollout")} would leave unsolved, the expected number where more were drawn: not proof that they are beyond reach.`]);
  if (has("never_solved")) heads.push(["never solved", "Share of problems that no number of rollouts would solve: an estimate by a fitted model of solve rates."]);
  if (has(metricOf("entropy"))) heads.push(["entropy", "Mean token entropy in nats: how undecided the policy is."]);
  heads.push(["trouble", "Shares of rollouts cut off, without an answer, or not decided by the verifier."]);
  const table = el("table", { class: "summary" },
    el("thead", {}, el("tr", {}, ...heads.map(([name, title]) => el("th", { scope: "col" }, el("span", { class: "term", text: name, title }))))),
    el("tbody", {}, ...runs().map((run, i) => summaryRow(run, i))));
  const compared = runs().length > 1 ? ` Compared with ${runs()[state.baseline].short} in points: ▲ higher or ▼ lower where the p-value, corrected for all comparisons (Holm), is below 0.05, else ≈ cannot tell.` : "";
  const note = `Which checkpoint reaches what, and is the difference real? n = ${plural(task().problems.length, "problem")}; in brackets 95 % intervals over problems.${compared}`;
  return [el("p", { class: "note", text: note }), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Summary table" }, table)];
}

// Where rollouts are missing there are bounds and no value; where verdicts are, both.
const few = (value) => (known(value) ? value.toLocaleString("en-US", { maximumFractionDigits: 2 }) : "–");
const range = ([least, most], format = few) => `${format(least).replace(" %", "")} to ${format(most)}`;
const valueOrBounds = (each, format) => (!known(each.value) && known(each.at_least) ? range([each.at_least, each.at_most], format) : format(each.value));
const errorBounds = (each, format) => (known(each.value) && known(each.at_least) ? `, ${range([each.at_least, each.at_most], format)} over errors` : "");

const cell = (main, small, extra) => el("td", {}, el("div", { class: "main", text: main }), small ? el("div", { class: "small", text: small }) : null, extra);

function summaryRow(run, i) {
  const swatch = el("span", { class: "swatch" });
  swatch.style.background = colour(i);
  const pairs = task().pairs.length > 0;
  const pair = pairOf(i);
  const one = (name, group = null) => estimates(run, name, group)[0] ?? {};
  const unsolved = one("unsolved");
  const never = one("never_solved");
  const entropy = one(metricOf("entropy"));
  const rates = [["cut", "truncation_rate"], ["no answer", "no_answer_rate"], ["error", "error_rate"]].map(([word, name]) => [word, one(name)]);
  const size = (kind) => (pair?.[kind] ? `${decimal(pair[kind].observed)}` : "–");
  const chanceOf = (kind) => (pair?.[kind] ? `${decimal(pair[kind].low, 2)}–${decimal(pair[kind].high, 2)}` : "");
  return el("tr", { class: i === state.baseline ? "baseline" : null },
    el("th", { scope: "row", title: run.label }, swatch, el("span", { text: clip(run.short, 24) }), i === state.baseline && pairs ? el("span", { class: "tag", text: "baseline" }) : null),
    ...summaryK().map((k) => {
      const found = estimates(run, "pass@k").find((each) => each.k === k) ?? {};
      return cell(valueOrBounds(found, percent), limits(found.low, found.high, percent) + errorBounds(found, percent), change(differenceAt(i, "pass@k", k)));
    }),
    ...(pairs ? [
      cell(pair ? (known(pair.crossover.k) ? `k = ${count(pair.crossover.k)}` : "none shown") : "–", pair && known(pair.crossover.k) && pair.crossover.low !== null ? `[${count(pair.crossover.low)}, ${pair.crossover.high === null ? `>${count(pair.crossover.largest_k)}` : count(pair.crossover.high)}]` : ""),
      cell(pair ? `${size("gains")} / ${size("losses")}` : "–", [pair?.gains ? `chance ${chanceOf("gains")} / ${chanceOf("losses")}` : "", pair?.gained_bounds ? `over errors ${range(pair.gained_bounds)} / ${range(pair.lost_bounds)}` : ""].filter(Boolean).join("; ")),
    ] : []),
    cell(valueOrBounds(unsolved, few), known(unsolved.low) ? `${limits(unsolved.low, unsolved.high, (value) => value.toFixed(0))} of ${count(unsolved.n_problems)}${errorBounds(unsolved, few)}` : ""),
    ...(has("never_solved") ? [cell(percent(never.value), limits(never.low, never.high, percent))] : []),
    ...(has(metricOf("entropy")) ? [cell(decimal(entropy.value), limits(entropy.low, entropy.high, (value) => decimal(value)))] : []),
    el("td", {}, ...rates.map(([word, each]) => el("div", { class: "small", text: `${word} ${percent(each.value)} ${limits(each.low, each.high, percent)}` }))));
}

function change(found) {
  const word = verdict(found);
  if (!word) return null;
  const mark = { higher: "▲", lower: "▼", "cannot tell": "≈" }[word];
  return el("div", { class: `change ${word.replace(" ", "-")}`, title: `${word}: ${points(found[2])} points ${limits(found[3], found[4], points)}, ${pValue(found[5])} (Holm), ${plural(found[6], "problem")}` },
    `${mark} ${points(found[2])} ${limits(found[3], found[4], points)}`);
}

const WORDS = [
  ["rollout", "One response of the model to one problem, drawn at random."],
  ["n and k", "n is the number of rollouts drawn of each problem; k is a number of attempts, at most n."],
  ["pass@k", "The chance that at least one of k attempts is right, estimated without bias from n rollouts and averaged over problems."],
  ["bounds", "What a value is at least and at most where rollouts or verdicts are missing: pass@k of a problem with n < k rollouts is between its pass@n and 1."],
  ["interval [low, high]", "The range of the value for other problems of the same kind and new rollouts, at 95 % confidence."],
  ["crossover", "A trained checkpoint often wins at k = 1 and loses at large k; the crossover is the k where the curves meet."],
  ["boundary", "The problems that a checkpoint can solve at all within k attempts. Unsolved is not unsolvable: few rollouts miss rare successes."],
  ["chance (same policy twice)", "Two runs of the same policy also differ in which problems they solve. Only what exceeds that is a change."],
  ["Holm", "A correction for making many comparisons at once, so that one false alarm in all of them is rare."],
  ["token entropy", "How evenly the model spreads its probability over next tokens, in nats; measured on its own distribution at temperature 1."],
  ["branching factor", "The number of tokens that hold 95 % of the next token's probability, on average."],
  ["Cover@τ", "The share of problems solved with a chance of at least τ per attempt."],
  ["verdict", "correct, wrong, no answer, or error where the verifier could not decide; an error counts as not solved and is shown separately."],
];

function words() {
  return el("dl", { class: "words" }, ...WORDS.flatMap(([word, meaning]) => [el("dt", { text: word }), el("dd", { text: meaning })]));
}

// Settings that all runs share are a list; those that differ are a table with a row per checkpoint.
function settings() {
  const names = [...new Set(runs().flatMap((run) => Object.keys(run.settings)))];
  const differs = names.filter((name) => new Set(runs().map((run) => run.settings[name])).size > 1);
  const shared = names.filter((name) => !differs.includes(name));
  const list = el("dl", { class: "words" }, ...shared.flatMap((name) => [el("dt", { text: name }), el("dd", { text: runs()[0].settings[name] })]));
  if (!differs.length) return [list];
  const head = el("tr", {}, ...["checkpoint", ...differs].map((name) => el("th", { scope: "col", text: name })));
  const body = runs().map((run) => el("tr", {}, el("th", { scope: "row", text: run.short }), ...differs.map((name) => el("td", { text: run.settings[name] ?? "–" }))));
  const table = el("table", { class: "settings" }, el("thead", {}, head), el("tbody", {}, ...body));
  return [list, el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Settings in which the runs differ" }, table)];
}
