// What smaller budgets per response would have given, on the axis of all that k attempts use.

const capsOf = (i) => task().caps.find((entry) => entry.run === i)?.result;
const CAP_DASHES = ["dot", "dash", "dashdot", "longdash", "longdashdot"];

const caps = {
  id: "caps",
  title: "pass@k by tokens",
  explain: "The same responses, cut to fewer tokens and graded again, against all tokens that k attempts at a problem use. The highest line at a number of tokens is the best way to spend them.",
  wide: true,
  controls: [{ key: "bands", label: "95 % bands", initial: false }, { key: "log", label: "logarithmic tokens", initial: true }],
  present: (each) => each.caps.length > 0,
  empty: "No run with caps is shown.",
  rows: () => shownRuns().flatMap((i) => (capsOf(i)?.caps ?? []).flatMap((at) => at.pass_at_k.filter((each) => known(each.value) && known(at.cost))
    .map((each) => row(i, each, { cap: capName(at.cap), k: each.k, used: each.k * at.cost, unit: capsOf(i).unit })))),
  figure(rows, chart) {
    const names = [...new Set(rows.map((each) => each.cap))].sort((a, b) => Number(a) - Number(b));
    const data = names.flatMap((name) => {
      const style = name === "uncut" ? "solid" : CAP_DASHES[names.indexOf(name) % CAP_DASHES.length];
      const traces = lines(rows.filter((each) => each.cap === name), { x: "used", bands: chosen(chart, "bands"), format: percent, dash: style, what: (each) => `pass@${count(each.k)}, ${each.cap === "uncut" ? "uncut" : `cut to ${each.cap} ${each.unit}`}: ${decimal(each.used)} ${each.unit}` });
      for (const trace of traces.filter((trace) => trace.name)) trace.name = `${trace.name}, ${name}`;
      return traces;
    });
    const title = `${[...new Set(rows.map((each) => each.unit))].join(" or ")} per problem`;
    const most = Math.max(...rows.map((each) => each.used));
    return { data, layout: { height: narrow() ? 340 : 420, showlegend: true, legend: topLegend(), xaxis: chosen(chart, "log") ? logAxis(title, most) : { title, rangemode: "tozero" }, yaxis: { title: "problems solved", tickformat: ".0%", rangemode: "tozero" } } };
  },
  says(rows) {
    const splits = shownRuns().flatMap((i) => {
      const best = capsOf(i)?.splits.at(-1);
      if (!best) return [];
      return [` ${runs()[i].short}: ${decimal(best.tokens)} tokens, which buy ${count(best.uncut_k)} uncut attempts, are best spent on ${decimal(best.k)} of at most ${count(best.token_cap)} tokens: ${percent(best.value.value)} ${limits(best.value.low, best.value.high, percent)}, ${points(best.gain.value)} points ${limits(best.gain.low, best.gain.high, points)} against uncut attempts, on rollouts that did not choose this.`];
    });
    const cut = shownRuns().flatMap((i) => (capsOf(i)?.caps ?? []).filter((at) => at.cap?.doubtful).map((at) => ` ${runs()[i].short}, cap ${capName(at.cap)}: ${count(at.cap.doubtful)} of ${count(at.cap.cut)} cut responses may be other tokens than were drawn.`));
    return standardNote(rows) + splits.join("") + cut.join("");
  },
};

function capName(cap) {
  return cap ? String(cap.tokens ?? cap.calls) : "uncut";
}
