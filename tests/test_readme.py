"""The README's commands and its Python, run as they stand, on a corpus and a budget small enough for a test."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from remask import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
CORPUS = "synthetic:symbols=8,states=4,length=64,documents=400,seed=0"


def commands() -> list[list[str]]:
    """Every `$ remask ...` of the README as its words, lines that a quote holds open joined."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", README, re.S):
        for text in re.split(r"^\$ ", block, flags=re.M)[1:]:
            words = shlex.split(text, comments=True)
            if words and words[0] == "remask":
                found.append(words[1:])
    return found


def small(words: list[str]) -> list[str]:
    """The same command on a smaller corpus, for three steps."""
    if words[0] == "prepare":
        return ["prepare", CORPUS, *words[2:], "--tokenizer", "bytes"]
    if words[0] != "train":
        return words
    at = words.index("--budget.minutes")
    tiny = "--architecture.layers 1 --architecture.width 16 --architecture.heads 2 --architecture.ffn 32"
    return [*words[:at], "--budget.steps", "3", *words[at + 2 :], *tiny.split(), "--batch", "4", "--compile", "off"]


def test_the_first_screen_names_the_two_commands_and_shows_the_picture() -> None:
    first = "\n".join(README.splitlines()[:14])
    assert "$ make demo" in first and "$ make test" in first
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", first)
    assert (ROOT / picture).stat().st_size > 10_000


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_commands_and_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    said = {}
    for words in commands():
        monkeypatch.setattr(sys, "argv", ["remask", *small(words)])
        cli.main(small(words))
        said[" ".join(words)] = capsys.readouterr().out
    assert len(said) == 7
    assert all(text.strip() for command, text in said.items() if not command.startswith("train"))
    assert any("-log p <=" in text for text in said.values()), "the masked model's score is a bound"
    assert any("-log p =" in text and "(exact)" in text for text in said.values()), "the other's is exact"
    (python,) = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(compile(python, "README.md", "exec"), {})
    assert capsys.readouterr().out.count("\n") >= 1
