"""What was found, in words: numbers line by line, and conclusions in sentences; `remask scale fit` prints both.

remask scale fit studies/novels
"""

from pathlib import Path
from typing import Any

from remask.scaling.fit.analysis import analyse
from remask.scaling.fit.document import CONSTANTS, EXPONENTS, describe
from remask.scaling.fit.points import FRESH
from remask.scaling.fit.repeated import FORMS
from remask.terminal import document

RULE = "no finite loss, or a nat above a run with no more parameters and no more tokens"


def fit(
    source: Path,
    target: float | None = None,
    draws: int = 200,
    seed: int = 0,
    columns: str = "",
    any_size: bool = False,
    json: bool = False,
) -> dict[str, Any]:
    """Fits scaling laws to finished runs.

    Args:
        source: Folder of run directories, or a CSV with columns N, D or C, loss, and if known family, stderr, U.
        target: FLOPs to predict the best size and loss at; ten times the largest budget by default.
        draws: Resamples behind the intervals.
        seed: Seed of the resamples.
        columns: Columns of a table whose names do not say what they are, as n=size,loss=val; family= for none.
        any_size: Accept runs of fewer than a thousand parameters or tokens, or of more than 1e14 parameters.
        json: Print one JSON document on standard output, and nothing else.
    """
    found = describe(analyse(source, draws, seed, target, columns, any_size), target)
    print(document(found) if json else "\n".join([*numbers(found), *comparisons(found)]))
    return found


def numbers(found: dict[str, Any]) -> list[str]:
    """All numbers, line by line."""
    lines = [
        f"FLOPs are {found['flops']}; intervals hold {found['level']:.0%} of the resamples; losses are nats a token."
    ]
    lines += found["notes"]
    for name, of in found["families"].items():
        lines += ["", f"{name or 'runs'}: {of['runs']} runs", *(f"  {line}" for line in family_numbers(of))]
    return lines


def family_numbers(of: dict[str, Any]) -> list[str]:
    """The numbers of one family."""
    lines = []
    if of["fresh"] < of["runs"]:
        lines.append(f"of them {of['fresh']} of at most {FRESH:g} epochs, for laws without epochs")
    if of["left_out_runs"]:
        lines.append(f"left out, as diverged ({RULE}): {', '.join(of['left_out_runs'])}")
    for b in of.get("budgets", ()):
        where = "" if b["bracketed"] else "   not bracketed by the sizes tried: left out of the laws"
        lines.append(f"C {b['C']:.2e}   best N {b['N']:.3g}   loss {b['loss']:.4f}   {b['runs']} runs{where}")
    for what in ("N", "loss"):
        if law := of.get(f"{what}_of_C"):
            lines.append(f"{what} = {law['k']:.4g} C^{law['exponent']:.4f} {brackets(law['interval'])}")
    if law := of.get("surface"):
        lines += ["L = E + A/N^alpha + B/D^beta:", *(f"  {line}" for line in surface_numbers(law))]
    if law := of.get("huber"):
        lines.append(f"by the Huber recipe: {', '.join(f'{k} {v:.4g}' for k, v in law.items())}")
    for name, law in of.get("repeated", {}).items():
        lines += repeated_numbers(name, law)
    if apart := of.get("predicted_by_the_others"):
        each = ", ".join(f"{one['C']:.1e} within {one['error']:.4f}" for one in apart)
        lines.append(f"budgets predicted by the others: {each}")
    for one in of.get("influential", ()):
        lines.append(f"without {one['run']} {one['exponent']} would be {one['without']:.4g}, outside its interval")
    return lines + of["missing"]


def surface_numbers(law: dict[str, Any]) -> list[str]:
    """The fitted surface."""
    lines = []
    for label, key in CONSTANTS.items():
        lines.append(f"{label:<13} {law[label]:<10.4g} {brackets(law['intervals'][key])}")
    if both := law["joint"]:
        ends = " and ".join(f"{name} {brackets(both[name])}" for name in EXPONENTS)
        known = law["correlation"] is not None  # it is not where one of them never varies
        lines.append(f"both at once  {ends}" + (f"; correlation {law['correlation']:.2f}" if known else ""))
    largest = f"largest {law['largest_residual']:.4f}, of {law['largest_residual_run']}"
    lines.append(f"residuals     {law['residual']:.4f} ({largest})")
    if law["on_the_edge"]:
        lines.append(f"not determined by these runs: {', '.join(law['on_the_edge'])}")
    if at := law["best_at"]:
        more = f"   loss {brackets(at['intervals']['loss'])}" if "intervals" in at else ""
        counted = f" (of {at['target']:.2e} as counted)" if at["target"] > 1.02 * at["C"] else ""
        where = f"at C = 6 N D = {at['C']:.2e}{counted}: N {at['N']:.3g}, D {at['D']:.3g}"
        lines.append(f"{where}, loss {at['loss']:.4f}{more}")
    return lines


def repeated_numbers(name: str, law: dict[str, Any]) -> list[str]:
    """A law of repeated data."""
    ends = law["intervals"] or {}
    names = (*FORMS[name].constants, "E", *EXPONENTS)
    shown = ", ".join(f"{k} = {law[k]:.4g} {brackets(ends.get(k))}".rstrip() for k in names)
    lines = [f"repeated data, {name}: {shown}   residuals {law['residual']:.4f}"]
    if law["on_the_edge"]:
        lines.append(f"  not determined by these runs: {', '.join(law['on_the_edge'])}")
    return lines


def conclusions(found: dict[str, Any]) -> list[str]:
    """What the numbers say, in paragraphs."""
    families = found["families"]
    runs, spent = (sum(of[key] for of in families.values()) for key in ("runs", "spent"))
    counted = found["flops"] if found["flops"].startswith("as ") else f"as {found['flops']}"
    lines = [
        f"{runs} runs of {len(families)} families, {spent:.3g} FLOPs in all (counted {counted}, each run whole). "
        "Losses are nats a token on held-out text; those of diffusion families are bounds."
    ]
    lines += ["", f"{' '.join(sentence(note) for note in found['notes'])}"] if found["notes"] else []
    for name, of in families.items():
        lines += ["", " ".join([f"**{name or 'runs'}**:", *family_conclusions(of)])]
    return lines + comparisons(found)


def family_conclusions(of: dict[str, Any]) -> list[str]:
    """What one family's numbers say, in sentences."""
    said = []
    if law := of.get("N_of_C"):
        said.append(f"the best size grows as C^{law['exponent']:.3f}{parentheses(law['interval'])},")
    if law := of.get("loss_of_C"):
        said.append(f"the loss falls as C^{law['exponent']:.4f}{parentheses(law['interval'])}.")
    if outside := [f"{b['C']:.1e}" for b in of.get("budgets", ()) if not b["bracketed"]]:
        said.append(f"Not bracketed by the sizes tried, and left out: {', '.join(outside)}.")
    if apart := of.get("predicted_by_the_others"):
        said.append(f"The other budgets predict that of {apart[-1]['C']:.1e} within {apart[-1]['error']:.3f} nats.")
    if of["left_out_runs"]:
        said.append(f"Diverged, and left out: {', '.join(of['left_out_runs'])}.")
    return said + repeated_conclusions(of) + [sentence(reason) for reason in of["missing"]]


def repeated_conclusions(of: dict[str, Any]) -> list[str]:
    """What repeats did, as the runs show it, and what they are worth by the laws."""
    laws, seen = of.get("repeated", {}), of.get("epochs", [])
    if not laws:
        return []
    harmed, said = [one for one in seen if one["harm"]], []
    if harmed:
        n, best, most = (harmed[-1][key] for key in ("N", "best", "most"))
        said.append(f"With {n:,.0f} parameters {best:.3g} epochs are best, and {most:.3g} do harm.")
    elif seen:
        said.append(f"Up to {min(one['most'] for one in seen):.3g} epochs no repeats do harm.")
    law = laws.get("saturating")
    if law is not None and not harmed and "R" not in law["on_the_edge"]:
        said.append(f"{law['R']:.3g}{parentheses((law['intervals'] or {}).get('R'))} repeats count in the end.")
    each = []
    for name, law in laws.items():
        open_ones = f" (not determined: {', '.join(law['on_the_edge'])})" if law["on_the_edge"] else ""
        each.append(f"{name} {law['residual']:.3f}{open_ones}")
    return [*said, f"Residuals of the laws of repeated data in nats: {', '.join(each)}."]


def comparisons(found: dict[str, Any]) -> list[str]:
    """Families against each other, in sentences."""
    lines = []
    for g in found["gaps"]:
        beyond = ", extrapolated beyond the budgets tried, by its law" if g["extrapolated"] else ""
        times = f"{g['times']:.3g} times{parentheses(g['interval'])} the compute of {g['fast']}"
        at = f"for the loss that the latter has at {g['at']:.2e} FLOPs"
        lines += ["", f"{g['slow']} needs {times} {at}{beyond}."]
    for x in found["crossings"]:
        where = f"{x['C']:.3g} FLOPs{parentheses(x['interval'])}"
        lines += ["", f"On {x['U']:.3g} distinct tokens {x['late']} passes {x['early']} at {where}."]
    return lines


def sentence(text: str) -> str:
    """A reason or a note as a sentence."""
    return f"{text[:1].upper()}{text[1:]}."


def brackets(interval: list[float] | None) -> str:
    """An interval among numbers."""
    return f"[{interval[0]:.4g}, {interval[1]:.4g}]" if interval else ""


def parentheses(interval: list[float] | None) -> str:
    """An interval in a sentence."""
    return f" ({interval[0]:.3g} to {interval[1]:.3g})" if interval else ""
