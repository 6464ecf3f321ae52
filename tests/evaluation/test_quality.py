"""Distinct n-grams and self-BLEU by hand and against another implementation, and a judge beside its entropy."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import UNHURRIED

import remask
from remask import cli
from remask.errors import RemaskError
from remask.evaluation.judging import entropy_of
from remask.evaluation.ngrams import brevity, distinct, matches, ngrams, self_bleu
from remask.evaluation.quality import quality


def test_distinct_is_a_share_of_all_texts_together() -> None:
    texts = [["a", "b", "a", "b"], ["b", "c"]]
    assert distinct(texts, 1) == 3 / 6
    assert distinct(texts, 2) == 3 / 4  # ab ba ab, bc
    assert math.isnan(distinct(texts, 5))


WORDS = st.lists(st.sampled_from("abc"), min_size=6, max_size=14)


@UNHURRIED
@given(st.lists(WORDS, min_size=2, max_size=5))
def test_matches_are_clipped_by_the_other_text_that_has_most(texts: list[list[str]]) -> None:
    from collections import Counter

    counts = [Counter(ngrams(text, 2)) for text in texts]
    for i, found in enumerate(matches(counts)):
        others = counts[:i] + counts[i + 1 :]
        assert found == sum(min(c, max(other[gram] for other in others)) for gram, c in counts[i].items())


@UNHURRIED
@given(st.lists(WORDS, min_size=2, max_size=4))
def test_self_bleu_is_the_bleu_of_torchmetrics(texts: list[list[str]]) -> None:
    """Where each n-gram order has a match; without one that implementation gives 0."""
    from torchmetrics.functional.text import bleu_score  # here, for it imports much

    lengths = [len(text) for text in texts]
    expected = []
    for i, text in enumerate(texts):
        others = sorted(texts[:i] + texts[i + 1 :], key=len)  # of equally near lengths it takes the first
        expected.append(float(bleu_score([" ".join(text)], [[" ".join(one) for one in others]], n_gram=2)))
    found = self_bleu(texts, 2)
    if all(expected):
        assert found == pytest.approx(math.fsum(expected) / len(lengths), rel=1e-5)
    else:
        assert found >= math.fsum(expected) / len(lengths)


def test_self_bleu_of_equal_unlike_and_short_texts() -> None:
    text = ["the", "cat", "sat", "on", "the", "mat", "today"]
    assert self_bleu([text, text]) == pytest.approx(1)
    assert self_bleu([text, ["one", "two", "three", "four", "five", "six", "seven"]]) == 0
    alike = self_bleu([text, ["one", "two", "the", "three", "four", "mat", "five"]])  # 2 of 7 words, no pair
    assert alike == pytest.approx((2 / 7 * 0.1 / 6 * 0.1 / 5 * 0.1 / 4) ** 0.25)
    assert 0 < self_bleu([["a"], ["a"]]) < 1, "no 2-gram matches, and there is none"
    assert math.isnan(self_bleu([text])) and math.isnan(self_bleu([[], []])) and self_bleu([text, []]) == 0
    assert brevity(4, [9, 5, 3]) == 0 and brevity(4, [6, 9]) == pytest.approx(1 - 6 / 4)


def test_a_judge_is_shown_with_the_entropy(autoregressive_run: Path, masked_run: Path) -> None:
    judge = remask.load(autoregressive_run)
    texts = ["abc abd abe", "aaa aaa", " ", "a" * 100]
    found = quality(texts, judge)
    kept = [texts[0], texts[1], texts[3][:64]]
    nats = [remask.score(judge, text=text).nats_per_token for text in kept]
    assert found.judged is not None and found.cut == 1 and found.texts == 4
    assert found.judged.nll == pytest.approx(sum(nats) / 3, rel=1e-5)
    import torch

    entropy = [entropy_of(torch.tensor(list(text.encode()))) for text in kept]
    assert found.judged.entropy == pytest.approx(sum(entropy) / 3)
    assert set(found.as_dict()) >= {"nll", "nll_error", "entropy", "entropy_error", "distinct_4", "self_bleu"}
    assert "nll" not in quality(texts).as_dict()
    with pytest.raises(RemaskError, match="the judge is a Masked model; its likelihood must be exact"):
        quality(texts, remask.load(masked_run))
    with pytest.raises(RemaskError, match="there are 1 texts with words; at least two"):
        quality(["a", " "])


def test_what_sample_prints_is_read(autoregressive_run: Path, tmp_path: Path, capfd: Any) -> None:
    run = str(autoregressive_run)
    cli.main(["sample", run, "--length", "16", "--count", "3", "--no-stop", "--json"])
    (tmp_path / "samples.json").write_text(capfd.readouterr().out)
    (tmp_path / "real.txt").write_text("abc abc abc\n<|endoftext|>\nabd abd abd abe\n")
    files = [str(tmp_path / "samples.json"), str(tmp_path / "real.txt")]
    cli.main(["quality", *files, "--judge", run, "--json"])
    found = json.loads(capfd.readouterr().out)
    assert list(found) == files and [one["texts"] for one in found.values()] == [3, 2]
    assert all(one["nll"] > 0 and one["entropy"] > 0 for one in found.values())
    cli.main(["quality", *files, "--judge", run])
    out = capfd.readouterr().out
    assert "self-BLEU" in out and f"{found[files[1]]['nll']:.4f} +- " in out and "token entropy" in out
    cli.main(["quality", files[1]])
    assert "judge" not in capfd.readouterr().out
