"""Which texts teach a tokenizer."""

from itertools import pairwise

import pytest

from remask.data import survey


def test_spread_takes_texts_from_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "SAMPLE", 1000)
    kept = list(survey.spread(f"{i:05d}" for i in range(10_000)))
    assert 500 <= sum(map(len, kept)) <= 1000
    assert int(kept[0]) < 100
    assert int(kept[-1]) > 9800
    assert len({int(b) - int(a) for a, b in pairwise(kept)}) == 1
