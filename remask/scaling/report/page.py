"""A study on one page: what was found in words and numbers, and pictures of it.

remask scale report studies/novels --out studies/novels/report
"""

from pathlib import Path

from remask.errors import RemaskError
from remask.files import write_atomically
from remask.scaling.fit.analysis import analyse
from remask.scaling.fit.document import describe
from remask.scaling.report.pictures import draw
from remask.scaling.report.text import conclusions, numbers

TITLES = {
    "isoflop": "IsoFLOP curves",
    "optimum": "Best size and loss",
    "repeated": "Repeated data",
    "residuals": "Residuals",
}


def report(
    source: Path,
    out: Path | None = None,
    overlay: bool = True,
    target: float | None = None,
    draws: int = 200,
    seed: int = 0,
    columns: str = "",
    any_size: bool = False,
) -> Path:
    """Writes report.md and its pictures.

    Args:
        source: A study, a folder of run directories, or a CSV (see `remask scale fit`).
        out: Folder of the report; SOURCE/report by default, or beside a CSV.
        overlay: Draw the slopes of SMDM, Chinchilla (corrected) and Quokka through the middle of the study.
        target: FLOPs to predict the best size and loss at; ten times the largest budget by default.
        draws: Resamples behind the intervals.
        seed: Seed of the resamples.
        columns: Columns of a table whose names do not say what they are, as for `remask scale fit`.
        any_size: Accept implausible numbers of parameters or tokens, as for `remask scale fit`.
    """
    source = Path(source)
    found = analyse(source, draws, seed, target, columns, any_size)
    folder = out or (source / "report" if source.is_dir() else source.with_suffix("") / "report")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RemaskError(f"{folder} cannot be made: {error}") from None
    drawn = draw(found.families, folder, overlay)
    numbered = describe(found, target)
    lines = [f"# Scaling laws: {source.name}", "", *conclusions(numbered), ""]
    lines += [line for name in drawn for line in (f"![{TITLES[name]}]({name}.png)", "")]
    lines += ["```", *numbers(numbered), "```", ""]
    write_atomically(folder / "report.md", "\n".join(lines))
    return folder / "report.md"
