"""Pictures: what stands in each cell of the denoising strip, and that the files are pictures."""

from pathlib import Path

import torch

import remask
from remask.denoising_strip import cells, confidence_colour, denoising_strip
from remask.likelihood import LossByLevel
from remask.plots import loss_by_level, loss_curves
from remask.sampling.loop import Step


def test_cells_cover_the_text_without_gaps(masked_run: Path) -> None:
    m = remask.load(masked_run)
    steps = list(remask.stream(m, prompt="ab", length=40, sampler="Ancestral", steps=8, seed=0, stop=False))
    given = (~(steps[0].masked | steps[0].changed))[0].tolist()
    before: Step | None = None
    for step in steps:
        found = cells(step, before, given, m.tokenizer, 16)
        for line in range(1 + max(cell.line for cell in found)):
            column = 0
            for cell in (cell for cell in found if cell.line == line):
                assert cell.column == column, "one cell begins where the last one ends"
                column += len(cell.text)
            assert column <= 16
        assert sum(len(c.text) for c in found if c.state == "hidden") == 2 * int(step.masked.sum())
        assert [c.state for c in found][:1] == ["given"]
        was = steps[0].changed if before is None else before.masked
        assert {round(c.confidence, 5) for c in found if c.state == "new"} == {
            round(p, 5) for p in step.confidence[was & ~step.masked].tolist()
        }
        before = step
    text = "".join(c.text for c in cells(steps[-1], None, given, m.tokenizer, 16))
    assert text == "".join(m.tokenizer.pieces(steps[-1].tokens[0].tolist(), end="\u25a0"))


def test_certain_tokens_are_greener() -> None:
    low, high = confidence_colour(0.0), confidence_colour(1.0)
    assert low[0] > high[0] and low[1] < high[1]


def test_pictures_are_written(masked_run: Path, autoregressive_run: Path, tmp_path: Path) -> None:
    m = remask.load(masked_run)
    denoising_strip(list(remask.stream(m, length=20, steps=6, seed=0)), m.tokenizer, tmp_path / "strip.png")
    loss_curves({"masked": masked_run, "twin": autoregressive_run}, tmp_path / "loss.png")
    found = LossByLevel()
    found.add(torch.arange(0.0, 1.0, 0.1), torch.arange(1.0, 11.0), torch.ones(10))
    loss_by_level({"masked": found}, tmp_path / "levels.png")
    for name in ("strip", "loss", "levels"):
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
