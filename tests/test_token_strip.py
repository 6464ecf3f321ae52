"""The nats of the tokens of a text, in Python, as JSON and in a terminal."""

import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console
from tables import tiny

import remask
from remask import cli
from remask.checkpoints.checkpoint import Checkpoint
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.families.masked import Masked
from remask.likelihood import Estimate
from remask.scoring import TokenScores
from remask.token_strip import show_tokens, style_of

SCORES = TokenScores(
    Estimate(5.0, 0.2, "bound", 3, 5), [1, 2, 3], ["a[b]", " b", "\n"], [0.1, 0.9, 4.0], [0.0, 0.1, 0.2]
)


def shown(**options: object) -> str:
    file = io.StringIO()
    show_tokens(SCORES, Console(file=file, **options))  # type: ignore[arg-type]
    return file.getvalue()


def test_colours_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = shown(force_terminal=True, color_system="standard")
    assert "\x1b[32ma[b]" in text and "\x1b[33m b" in text, "green and yellow, and brackets are no markup"
    assert "p >= 0.7" in text and "p < 0.05" in text


def test_a_table_without_a_terminal_or_colours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    show_tokens(SCORES)
    show_tokens(SCORES, Console(force_terminal=True, color_system="standard", no_color=True))
    monkeypatch.setenv("NO_COLOR", "1")
    show_tokens(SCORES, Console(force_terminal=True, color_system="standard"))
    one = "   0.1000  'a[b]'\n   0.9000 +- 0.1000  ' b'\n   4.0000 +- 0.2000  '\\n'\n"
    assert capsys.readouterr().out == one * 3 and shown() == one


def test_the_colour_is_that_of_the_probability() -> None:
    assert [style_of(-math.log(p)) for p in (1.0, 0.71, 0.69, 0.31, 0.1)] == ["green"] * 2 + ["yellow"] * 2 + ["red"]
    assert style_of(math.inf) == style_of(10.0) and "on red" in style_of(10.0)


def test_a_text_longer_than_the_context() -> None:
    tokenizer = Tokenizer.bytes()
    family = Masked().over(tokenizer.vocabulary)
    m = Checkpoint(tiny(family.vocabulary.size, family.vocabulary.predicted, context=8), family, tokenizer, {})
    text = "né, abcdefgh"
    found = remask.score_tokens(m, text=text, draws=16)
    whole = remask.score(m, text=text, draws=16)
    assert len(found.nats) == len(found.texts) == 13 and "".join(found.texts) == text
    assert math.fsum(found.nats) == pytest.approx(whole.nats, rel=1e-5) and found.estimate.stderr > 0
    with pytest.raises(RemaskError, match="text and prompt are both text"):
        remask.score_tokens(m, text="a", prompt=[1])


def test_by_the_command_line(
    masked_run: Path, autoregressive_run: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["score", str(masked_run), "--text", "abca", "--prompt", "bc", "--estimator", "chain", "--tokens"]
    cli.main([*command, "--json"])
    found = json.loads(capfd.readouterr().out)
    assert found["token_texts"] == list("abca") and found["token_ids"] == list(b"abca")
    assert math.fsum(found["token_nats"]) == pytest.approx(found["nats"]) and found["token_stderr"] == [0.0] * 4
    cli.main(command)
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 6 and lines[0].endswith("  'a'") and lines[4].startswith("-log p = ")
    cli.main(["score", str(autoregressive_run), "--ids", "97,98", "--tokens"])
    assert capfd.readouterr().out.count("'") == 4
