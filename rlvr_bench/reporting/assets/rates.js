// Solve rates of single problems, also from rollouts of other checkpoints (reach).

const reachName = (each) => `${runs()[each.run].short} from ${each.result.drawers.length > 1 ? each.result.drawers.slice(1).map((drawer) => drawer.model).join(", ") : "its rollouts alone"}`;

const solveRates = {
  id: "solve-rates",
  title: "How often would it solve each problem?",
  explain: "The probability that one rollout of the checkpoint solves a problem, estimated from correct rollouts of all the runs named, each with its probability under the checkpoint. Bars: 95 % intervals.",
  wide: true,
  choice: { reach: 0 },
  present: (each) => each.reaches.length > 0,
  empty: "No problem was solved.",
  controls: [pickFrom("reach", "solve rates of", () => task().reaches, reachName)],
  rows(chart) {
    const each = task().reaches[chosen(chart, "reach")];
    if (!each) return [];
    const solved = each.result.problems.filter((one) => one.rate > 0).sort((a, b) => a.rate - b.rate);
    return solved.map((one) => ({
      _run: each.run, checkpoint: runs()[each.run].label, problem: one.id, solve_rate: one.rate, low: one.low, high: one.high, level: each.result.level, certainly_at_least: one.bound,
      rollouts: one.n.join(" "), correct: one.c.join(" "), effective_rollouts: one.effective, n_problems: each.result.problems.length,
    }));
  },
  figure(rows) {
    const least = Math.min(...rows.map((each) => each.solve_rate)) / 10;
    const bars = { type: "data", symmetric: false, array: rows.map((each) => each.high - each.solve_rate), arrayminus: rows.map((each) => each.solve_rate - Math.max(each.low, Math.min(least, each.solve_rate))), thickness: 1, width: 0 };
    const words = (each) => `<b>${esc(each.problem, 60)}</b>: ${decimal(each.solve_rate, 5)} (${decimal(each.low, 5)} to ${decimal(each.high, 5)})<br>certainly at least ${decimal(each.certainly_at_least, 5)}<br>correct ${esc(each.correct, 60)} of ${esc(each.rollouts, 60)} rollouts`;
    return {
      data: [{ type: "scatter", mode: "markers", x: rows.map((_, j) => j + 1), y: rows.map((each) => each.solve_rate), error_y: bars, marker: { size: 5, color: colour(rows[0]._run) }, hoverinfo: "text", hovertext: rows.map(words), showlegend: false }],
      layout: { height: 380, xaxis: { title: "solved problems, hardest first" }, yaxis: { title: "solve rate", type: "log" } },
    };
  },
  says(rows, chart) {
    const { result } = task().reaches[chosen(chart, "reach")];
    const splits = result.solved_by_others.filter((one) => one.k >= 1000 && one.problems);
    const words = splits.map((one) => ` Of ${plural(one.problems, "problem")} that ${clip(one.by, 80)} solved and this one did not, ${count(one.within)} ${one.within === 1 ? "is" : "are"} within its reach at k = ${count(one.k)}.`);
    return `${standardNote(rows).replace(" over problems", " of each problem")}${words.join("")}${result.notes.map((note) => ` Note: ${note}.`).join("")}`;
  },
};
