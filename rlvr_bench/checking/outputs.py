"""Output formats of a check for other programs: JUnit XML, a Markdown summary and annotations for GitHub Actions."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from rlvr_bench.checking.results import Check, Finding
from rlvr_bench.metrics import find_metric
from rlvr_bench.tables import Cell, Column, Figure, Table, as_markdown, markdown

__all__ = ["VERDICTS", "change_figure", "junit", "summary", "value_figure", "why", "workflow_commands"]

VERDICTS = {"ok": "ok", "regression": "REGRESSION", "cannot_tell": "cannot tell"}
_NOT_XML = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")


def value_figure(finding: Finding, value: float) -> Figure:
    """A rate as percent, anything else as a number."""
    return Figure.of(value, percent=not _is_plain(finding))


def change_figure(finding: Finding, value: float, low: float | None = None, high: float | None = None) -> Figure:
    """A change, in points of percent where the metric is a rate, with its limits."""
    digits, scale = (3, 1.0) if _is_plain(finding) else (2, 100.0)
    return Figure(value=value, low=low, high=high, digits=digits, scale=scale)


def why(finding: Finding) -> str:
    """The finding in one sentence."""
    unit = "" if _is_plain(finding) else " points"
    before, now = (value_figure(finding, value).alone for value in (finding.first, finding.second))
    change, low, high, allowed = (
        change_figure(finding, value).alone
        for value in (finding.worse_by, finding.low, finding.high, finding.tolerance)
    )
    text = (
        f"{finding.metric} went from {before} to {now}, worse by {change}{unit} "
        f"(at least {low}, at most {high}; allowed {allowed})"
    )
    if finding.at_most is not None:
        most = change_figure(finding, finding.at_most).alone
        text += f"; rollouts or verdicts are missing: worse by {change} to {most}{unit}, whatever they would have been"
    if finding.outcome != "cannot_tell":
        return text
    return f"{text}: too little data to decide. {what_would_settle(finding)}"


def what_would_settle(finding: Finding) -> str:
    """How much more data it takes."""
    unit = "problems" if finding.source == "problems" else "rollouts per problem in both runs"
    if finding.at_most is not None:
        return "What is missing would settle it: draw the rest, or grade again"
    if finding.needed is None:
        return f"The estimate is so close to the tolerance that no number of {unit} would settle it"
    enough, look = f"About {finding.needed:,} {unit} would settle it", finding.next_look
    if look is None:
        return enough
    tokens = "" if look.tokens is None else f", about {look.tokens:,} tokens"
    return (
        f"Draw {look.n - finding.n_samples:,} more per problem, to {look.n:,} in both runs ({look.rollouts:,} new rollouts"
        f"{tokens}), and check again: the level holds over any number of looks. {enough}"
    )


def junit(check: Check, *, strict: bool = False) -> bytes:
    """One test case per finding: a regression is a failure, "cannot tell" is skipped, or a failure where ``strict``."""
    failed = {"regression", "cannot_tell"} if strict else {"regression"}
    suite = ElementTree.Element(
        "testsuite",
        name="rlvr-bench check",
        tests=str(len(check.findings)),
        failures=str(sum(finding.outcome in failed for finding in check.findings)),
        errors="0",
        skipped=str(sum(finding.outcome not in failed | {"ok"} for finding in check.findings)),
        time="0",
    )
    for finding in check.findings:
        name = f"{finding.rule} ({finding.run} against {finding.baseline})"
        case = ElementTree.SubElement(suite, "testcase", classname=_xml(finding.task), name=_xml(name), time="0")
        if finding.outcome in failed:
            ElementTree.SubElement(case, "failure", type=finding.outcome, message=_xml(why(finding)))
        elif finding.outcome != "ok":
            ElementTree.SubElement(case, "skipped", message=_xml(why(finding)))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content


def summary(check: Check) -> str:
    """A Markdown table of the findings, for the summary of a job."""
    names = ("", "task", "run", "baseline", "rule")
    numbers = ("before", "now", "worse by", "at least", "at most", "p (Holm)")
    rows: list[tuple[Cell, ...]] = [
        (
            VERDICTS[finding.outcome],
            *(finding.task, finding.run, finding.baseline, finding.rule),
            *(value_figure(finding, value).alone for value in (finding.first, finding.second)),
            *(change_figure(finding, value) for value in (finding.worse_by, finding.low, finding.high)),
            f"{finding.p_holm:.3f}",
        )
        for finding in check.findings
    ]
    columns = (*map(Column, names), *(Column(name, "right") for name in numbers))
    remarks = [why(finding) for finding in check.findings if finding.outcome != "ok"] + list(check.notes)
    title = f"### rlvr-bench check: {VERDICTS[check.outcome]}"
    return "\n".join(
        [title, "", markdown(Table(columns, tuple(rows))), "", *(f"- {as_markdown(text)}" for text in remarks), ""]
    )


def workflow_commands(check: Check, *, strict: bool = False) -> list[str]:
    """Workflow commands of GitHub Actions: error for a regression, warning (error if ``strict``) for "cannot tell"."""
    lines = []
    for finding in check.findings:
        if finding.outcome != "ok":
            command = "error" if strict or finding.outcome == "regression" else "warning"
            title = f"{VERDICTS[finding.outcome]}: {finding.run} on {finding.task}"
            lines.append(f"::{command} title={_property(title)}::{_data(why(finding))}")
    return lines


def _is_plain(finding: Finding) -> bool:
    row = find_metric(finding.metric) or find_metric(f"{finding.metric.partition('@')[0]}@k")
    return row is not None and not row.is_fraction


def _xml(text: str) -> str:
    """The text, with U+FFFD for characters that XML 1.0 does not allow even if escaped."""
    return _NOT_XML.sub("\ufffd", text)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
