"""The report of `remask frontier`: JSON, a Markdown page, and two pictures."""

from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from remask.evaluation.frontier_points import Curve, Measurements, Point
from remask.likelihood import Estimate
from remask.terminal import document

COLOURS = ("#0969da", "#1a7f37", "#bf3989", "#9a6700", "#57606a", "#cf222e", "#8250df", "#0a7ea4")
MARKS = "os^vDPX*"


def write_report(measured: Measurements, folder: Path, json: bool) -> dict[str, Any]:
    """Writes frontier.md and frontier.png. Prints the page or, with `json`, all results as one JSON document."""
    curves = measured.curves()
    page = page_text(measured, curves)
    (folder / "frontier.md").write_text(page)
    pictures(measured, curves, folder / "frontier.png")
    assert measured.real is not None
    rules = [
        {"model": m, "sampler": s, "steps": n, "nats_per_token": e.nats_per_token, **asdict(e)}
        for (m, s, n), e in measured.rules.items()
        if e is not None
    ]
    result = {
        "settings": measured.settings,
        "real": asdict(measured.real),
        "points": [asdict(p) for p in measured.points],
        "curves": [asdict(c) for c in curves],
        "rules": rules,
    }
    print(document(result) if json else page)
    return result


def page_text(measured: Measurements, curves: list[Curve]) -> str:
    """The page in Markdown."""
    assert measured.real is not None
    s, real = measured.settings, measured.real
    lines = [
        "# Speed against quality",
        "",
        f"{s['texts']} texts of {s['length']} tokens a point, none prompted, judged by {s['judge']}. Real text: NLL "
        f"{real.nll:.3f} +- {real.nll_error:.3f}, token entropy {real.entropy:.3f} +- {real.entropy_error:.3f} nats.",
        "",
        "NLL is the judge's, nats a token, where the sweep of temperatures has the token entropy of real text. "
        "Likelihood is that of real text under the rule by which the sampler writes, nats a token, exact; no number "
        "where the rule has none (positions drawn at random, or written more than once).",
        "",
        "| model | sampler | steps | tokens/s | NLL at real entropy | likelihood of the rule | Pareto front |",
        "|---|---|---|---|---|---|---|",
    ]
    for c in sorted(curves, key=lambda c: -c.tokens_per_second):
        rule = measured.rules.get((c.model, c.sampler, c.steps))
        lines.append(
            f"| {c.model} | {c.sampler} | {c.steps or 'one a token'} | {c.tokens_per_second:.0f} "
            f"| {matched_cell(measured, c)} | {rule_cell(rule)} | {'yes' if c.fastest else ''} |"
        )
    lines += ["", "![Speed and quality](frontier.png)", "", "Every measurement:", ""]
    lines += ["| model | sampler | steps | temperature | passes | NLL | token entropy | tokens/s |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for p in measured.points:
        lines.append(
            f"| {p.model} | {p.sampler} | {p.steps or ''} | {p.temperature:g} | {p.passes:.0f} | {p.nll:.3f} +- "
            f"{p.nll_error:.3f} | {p.entropy:.3f} +- {p.entropy_error:.3f} | {p.tokens_per_second:.0f} |"
        )
    return "\n".join([*lines, ""])


def matched_cell(measured: Measurements, c: Curve) -> str:
    """The cell with the NLL of a curve at the entropy of real text, or with the entropies that its sweep reaches."""
    if c.matched is not None:
        return f"{c.matched:.3f} +- {c.matched_error:.3f}"
    own = [p.entropy for p in measured.points if p.key[:3] == (c.model, c.sampler, c.steps)]
    return f"not reached: entropy {min(own):.2f} to {max(own):.2f}"


def rule_cell(rule: Estimate | None) -> str:
    """The cell with the likelihood of a rule, which is empty where there is none."""
    return "" if rule is None else f"{rule.nats_per_token:.3f}"


def pictures(measured: Measurements, curves: list[Curve], path: Path) -> None:
    """Left: NLL against entropy over the temperatures. Right: NLL at real entropy against speed, with the front."""
    from matplotlib.figure import Figure

    assert measured.real is not None
    figure = Figure(figsize=(13, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = list(dict.fromkeys((p.model, p.sampler) for p in measured.points))
    looks = {name: (COLOURS[i % len(COLOURS)], MARKS[i % len(MARKS)]) for i, name in enumerate(names)}
    for (model, sampler, steps), group in groupby(measured.points, key=lambda p: p.key[:3]):
        sweep(left, sorted(group, key=lambda p: p.temperature), *looks[model, sampler], steps)
    real = measured.real
    left.errorbar(
        [real.entropy], [real.nll], xerr=[real.entropy_error], yerr=[real.nll_error],
        fmt="*", markersize=14, color="black", label="real text",
    )  # fmt: skip
    left.axvline(measured.real.entropy, color="black", linewidth=0.6, linestyle=":")
    left.set(xlabel="token entropy, nats", ylabel="NLL under the judge, nats a token")
    for name in names:
        own = [c for c in curves if (c.model, c.sampler) == name and c.matched is not None]
        colour, mark = looks[name]
        label = name[0] if len({s for m, s in names if m == name[0]}) == 1 else f"{name[0]}, {name[1]}"
        speeds, values = [c.tokens_per_second for c in own], [c.matched for c in own]
        errors = [c.matched_error for c in own]
        right.errorbar(speeds, values, yerr=errors, marker=mark, color=colour, linestyle="none", capsize=2, label=label)
        for c in own:
            right.annotate(str(c.steps or ""), (c.tokens_per_second, c.matched), fontsize=7,
                           xytext=(4, 3), textcoords="offset points")  # fmt: skip
    front = sorted((c for c in curves if c.fastest), key=lambda c: c.tokens_per_second)
    right.plot([c.tokens_per_second for c in front], [c.matched for c in front], color="black", linewidth=0.8,
               drawstyle="steps-pre", label="Pareto front")  # fmt: skip
    right.axhline(measured.real.nll, color="black", linewidth=0.6, linestyle=":")
    if front:
        right.set_xscale("log")
    else:
        right.set_title("no sweep of temperatures comes to the entropy of real text", fontsize=9)
    right.set(xlabel="tokens a second", ylabel="NLL at the entropy of real text")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=120)


def sweep(axes: Any, points: list[Point], colour: str, mark: str, steps: int) -> None:
    """Draws the NLL of one curve against its entropy; model and steps are written at the highest temperature."""
    entropy, nll = [p.entropy for p in points], [p.nll for p in points]
    axes.plot(entropy, nll, marker=mark, markersize=4, color=colour, linewidth=0.9, alpha=0.9)
    axes.annotate(f"{points[-1].model} {steps or ''}".strip(), (entropy[-1], nll[-1]), fontsize=6,
                  xytext=(4, 0), textcoords="offset points")  # fmt: skip
