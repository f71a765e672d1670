// How the policy spreads its probability, and the quality of its responses.

const KINDS = ["all", "correct", "wrong"];
const STATISTICS = "These scorecards have no token statistics (evaluate with --token-stats summary).";

// Dots of the metric whose chart is id, over all, correct and wrong rollouts.
function byOutcome(id, title, explain, axis) {
  const name = metricOf(id);
  const groups = (matched) => (matched ? [["correct", "correct, length-matched"], ["wrong", "wrong, length-matched"]] : [["all", null], ["correct", "correct"], ["wrong", "wrong"]]);
  return {
    id,
    title,
    explain,
    controls: [{ key: "matched", label: "rollouts", initial: "plain", options: () => [["plain", "as drawn"], ...(runs().some((run) => estimates(run, name, "correct, length-matched").length) ? [["matched", "matched in length"]] : [])] }],
    empty: STATISTICS,
    rows: (chart) => groups(chosen(chart, "matched") === "matched").flatMap(([kind, group]) => rowsOf(name, () => ({ rollouts: kind, group: group ?? "all" }), group)),
    figure: (rows) => dots(rows, { by: "rollouts", kinds: KINDS.filter((kind) => rows.some((each) => each.rollouts === kind)), title: axis, what: (each) => `${title.toLowerCase()}, ${each.group}` }),
  };
}

const entropyKinds = byOutcome("entropy", "Token entropy", "How undecided the policy is at each token, in nats (0: always the same next token). Correct and wrong rollouts apart; wrong ones are often longer, so compare them matched in length too.", "entropy, nats");
const branching = byOutcome("branching", "Branching factor", "How many next tokens hold 95 % of the probability, on average: 1 means no choice.", "tokens");
const lengths = byOutcome("lengths", "Length of responses", "Tokens per response.", "tokens");
lengths.empty = "Not in these scorecards.";

const profile = {
  id: "profile",
  title: "Entropy along the response",
  explain: "Token entropy from the beginning of a response (left) to its end (right): where the policy still decides.",
  controls: [
    { key: "kind", label: "rollouts", initial: "all", options: () => KINDS.filter((kind) => runs().some((run) => profileOf(run, kind).length)).map((kind) => [kind, kind]) },
    { key: "bands", label: "95 % bands", initial: true },
  ],
  empty: STATISTICS,
  rows: (chart) => shownRuns().flatMap((i) => profileOf(runs()[i], chosen(chart, "kind") ?? "all").map(([from, to, each]) => row(i, each, { rollouts: chosen(chart, "kind") ?? "all", from, to, _middle: (from + to) / 2 }))),
  figure: (rows, chart) => ({
    data: lines(rows, { x: "_middle", bands: chosen(chart, "bands"), what: (each) => `entropy at ${Math.round(100 * each.from)}–${Math.round(100 * each.to)} % of the response` }),
    layout: { height: 340, xaxis: { title: "position in the response", tickformat: ".0%", range: [0, 1] }, yaxis: { title: "entropy, nats", rangemode: "tozero" } },
  }),
};

// (from, to, estimate) of the bins, whose groups read "0.00-0.05" for all rollouts and "correct, 0.00-0.05" for some.
function profileOf(run, kind) {
  return estimates(run, metricOf("profile")).flatMap((each) => {
    const found = /^(?:(correct|wrong), )?([\d.]+)-([\d.]+)$/.exec(each.group ?? "");
    return found && (found[1] ?? "all") === kind && known(each.value) ? [[Number(found[2]), Number(found[3]), each]] : [];
  });
}

const mostProblems = (each) => 2 * each.n_problems >= task().problems.length;

const diversity = {
  id: "diversity",
  title: "Distinct answers",
  explain: "How many different final answers k answers to one problem hold, on average. A policy that is right more often gives fewer for that reason alone.",
  controls: [{ key: "bands", label: "95 % bands", initial: true }],
  rows: () => rowsOf(metricOf("diversity"), (each) => ({ k: each.k })),
  says: (rows) => `${standardNote(rows.filter(mostProblems))} Points that fewer than half of the problems enter are in the table only.`,
  figure: (rows, chart) => ({
    data: lines(rows.filter(mostProblems), { x: "k", bands: chosen(chart, "bands"), what: (each) => `distinct answers among ${count(each.k)}` }),
    layout: { height: 340, xaxis: logAxis("k, answers to one problem", Math.max(...rows.filter(mostProblems).map((each) => each.k))), yaxis: { title: "distinct answers", rangemode: "tozero" } },
  }),
};

const answerEntropy = {
  id: "answer-entropy",
  title: "Answer entropy",
  explain: "How evenly k final answers to a problem are spread on average, in nats (0: always the same answer), for the largest k that all runs have. Over k wrong answers, it does not depend on how often the policy is right.",
  rows: () => [["all", "answer_entropy@k"], ["wrong", "wrong_answer_entropy@k"]].flatMap(([kind, name]) => {
    const rows = rowsOf(name, (each) => ({ answers: kind, k: each.k }));
    const all = new Set(rows.map((each) => each._run)).size;
    const common = rows.map((each) => each.k).filter((k) => rows.filter((each) => each.k === k && mostProblems(each)).length === all);
    return rows.filter((each) => each.k === Math.max(...common));
  }),
  figure: (rows) => dots(rows, { by: "answers", kinds: ["all", "wrong"], title: "entropy of answers, nats", what: (each) => `entropy of ${count(each.k)} answers, ${each.answers}` }),
};

const rates = () => task().metrics.filter((each) => each.rate);

const quality = {
  id: "quality",
  title: "Quality of the responses",
  explain: "Shares of all rollouts: cut off at the token limit, without an answer, not decided by the verifier, word-for-word repeats of another rollout, and other signs of trouble. Read pass@k together with them.",
  wide: true,
  rows: () => rates().flatMap(({ name, rate }) => rowsOf(name, () => ({ rate }))),
  figure: (rows) => cells(rows, { by: "rate", columns: rates().map((each) => each.rate).filter((name) => rows.some((each) => each.rate === name)), scale: (each) => Math.sqrt(each.value), label: (each) => percent(each.value), format: percent, what: (each) => each.rate }),
};
