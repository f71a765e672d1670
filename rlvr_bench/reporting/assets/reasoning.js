// The judgements of the reasoning, and the effect of tools.

const isJudged = (run) => run.judge !== null && run.estimates.some((each) => each.name === metricOf("cot"));
const ofJudges = { present: (each) => each.runs.some(isJudged) };

function judgeWords() {
  const judged = shownRuns().filter((i) => isJudged(runs()[i]));
  const words = judged.map((i) => {
    const { judge, version, rule, rollouts, valid, invalid, error } = runs()[i].judge;
    return `${runs()[i].short}: judge ${clip(judge, 80)} (version ${clip(version, 20)}, ${clip(rule, 20)} of its votes), ${count(valid)} valid, ${count(invalid)} invalid, ${count(error)} without a judgement, of ${plural(rollouts, "correct rollout")}.`;
  });
  const others = shownRuns().filter((i) => !isJudged(runs()[i])).map((i) => runs()[i].short);
  return `${words.join(" ")}${others.length ? ` Not judged: ${others.join(", ")}.` : ""} The intervals do not include mistakes of the judge.`;
}

const cot = {
  ...ofJudges,
  id: "cot",
  title: "CoT-Pass@k",
  explain: "The chance that at least one of k attempts is right and its reasoning was judged valid (solid, arXiv 2506.14245), and pass@k, which depends on the answer alone (dotted). The gap is what unsound reasoning solves.",
  wide: true,
  controls: [{ key: "bands", label: "95 % bands", initial: true }],
  rows: () => shownRuns().filter((i) => isJudged(runs()[i])).flatMap((i) => [["CoT-Pass@k", metricOf("cot")], ["pass@k", "pass@k"]].flatMap(([what, name]) => estimates(runs()[i], name).filter((each) => known(each.value)).map((each) => row(i, each, { what, k: each.k })))),
  figure(rows, chart) {
    const options = { x: "k", format: percent, what: (each) => `${each.what} at k = ${count(each.k)}` };
    const sound = lines(rows.filter((each) => each.what === "CoT-Pass@k"), { ...options, bands: chosen(chart, "bands") });
    const any = lines(rows.filter((each) => each.what === "pass@k"), { ...options, dash: "dot" });
    for (const trace of any) trace.showlegend = false;
    return { data: [...sound, ...any], layout: { height: 380, xaxis: logAxis("k, attempts per problem", Math.max(...rows.map((each) => each.k))), yaxis: { title: "problems solved", tickformat: ".0%", rangemode: "tozero" } } };
  },
  says: (rows) => `${standardNote(rows)} ${judgeWords()}`,
};

const validReasoning = {
  ...ofJudges,
  id: "valid-reasoning",
  title: "Valid among correct",
  explain: "The share of a problem's correct rollouts whose reasoning was judged valid, averaged over problems with one.",
  wide: true,
  rows: () => rowsOf(metricOf("valid-reasoning"), () => ({ rollouts: "correct" })),
  empty: "No correct rollout was judged.",
  figure: (rows) => dots(rows, { by: "rollouts", kinds: ["correct"], title: "share of correct rollouts", tickformat: ".0%", format: percent, what: () => "judged valid" }),
};

const withTools = (i) => runs()[i].tools !== null;
const shownPairs = () => task().text_and_tools.filter((pair) => pair.every((i) => !state.hidden.has(i)));
const toolPair = ([text, tool]) => task().pairs.find((pair) => pair.first === text && pair.second === tool);

const toolBoundary = {
  id: "tool-boundary",
  title: "Text boundary and tool boundary",
  explain: "pass@k of one checkpoint that may run code while it answers (solid) and that may not (dotted), on the same problems. Where the curves differ at the right, tools solve problems that text alone does not.",
  wide: true,
  present: (each) => each.text_and_tools.length > 0,
  controls: [{ key: "bands", label: "95 % bands", initial: true }],
  rows: () => shownPairs().flatMap((pair) => pair.flatMap((i) => estimates(runs()[i], "pass@k").filter((each) => known(each.value)).map((each) => row(i, each, { what: "pass@k", tools: runs()[i].tools?.language ?? "none", k: each.k, p_holm: null })))
    .concat((toolPair(pair)?.differences ?? []).filter(([name, , value]) => name === "pass@k" && known(value)).map(([, k, value, low, high, p, n]) => row(pair[1], { value, low, high, n_problems: n, method: "paired bootstrap over problems" }, { what: "pass@k with tools less without", tools: runs()[pair[1]].tools.language, k, p_holm: p })))),
  empty: "Needs a checkpoint's run with tools and its run without, both shown.",
  figure(rows, chart) {
    const mine = rows.filter((each) => each.what === "pass@k");
    const options = { x: "k", format: percent, what: (each) => `pass@${count(each.k)}, tools: ${each.tools}` };
    const data = [true, false].flatMap((able) => lines(mine.filter((each) => withTools(each._run) === able), { ...options, dash: able ? "solid" : "dot", bands: chosen(chart, "bands") }));
    return { data, layout: { height: 380, showlegend: true, legend: topLegend(), xaxis: logAxis("k, attempts per problem", Math.max(...mine.map((each) => each.k))), yaxis: { title: "problems solved", tickformat: ".0%", rangemode: "tozero" } } };
  },
  says(rows) {
    const words = shownPairs().map((pair) => {
      const found = toolPair(pair), name = runs()[pair[1]].short, k = task().ks.at(-1);
      if (!found) return "";
      const [, , value, low, high, p] = found.differences.find(([name, budget]) => name === "pass@k" && budget === k) ?? [];
      const size = (each) => (each ? ` (by chance ${decimal(each.low, 2)}–${decimal(each.high, 2)})` : "");
      return ` ${name}, k = ${count(k)}: pass@k ${points(value)} points ${limits(low, high, points)}, ${pValue(p)} (Holm); ${decimal(found.n_gained)} problems expected to be solved with tools only${size(found.gains)}, ${decimal(found.n_lost)} without tools only${size(found.losses)}.`;
    });
    return `${standardNote(rows)}${words.join("")}`;
  },
};

const toolCalls = {
  id: "tool-calls",
  title: "Tool calls",
  explain: "Blocks of code per response, and those of them that failed: an exception, a time limit, a lost interpreter. Means over problems.",
  wide: true,
  present: (each) => each.runs.some((run) => run.tools !== null),
  rows: () => shownRuns().filter(withTools).flatMap((i) => ["calls", "errors"].map((kind) => row(i, { value: runs()[i].tools[kind], level: null, n_problems: task().problems.length, note: known(runs()[i].tools[kind]) ? "" : "absent: not in this scorecard" }, { tools: runs()[i].tools.language, kind }))),
  empty: "No run with tools is shown.",
  figure: (rows) => dots(rows, { by: "kind", kinds: ["calls", "errors"], colours: [css("--accent"), css("--bad")], symbols: ["circle", "diamond"], title: "per response", rangemode: "tozero", what: (each) => `tool ${each.kind} per response` }),
  says(rows) {
    const tools = [...new Set(rows.map((each) => `${each.tools}, version ${runs()[each._run].tools.version}`))].map((each) => clip(each, 60));
    const absent = rows.some((each) => !known(each.value)) ? " Scorecards without the counts are left out." : "";
    return `n = ${plural(task().problems.length, "problem")}; scorecards hold these means without an interval.${absent} Tools: ${tools.join("; ")}. Runs without tools: ${count(runs().filter((run) => run.tools === null).length)}.`;
  },
};
