"""Revisions of drafts: what may change, what is chosen, and how drafts are read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from remask.errors import RemaskError
from remask.families.masked import Masked
from remask.robustness.drafts import Draft, draft_of, drafts_of
from remask.robustness.revising import certainty, revise, revise_tokens
from remask.robustness.revision import Revision
from remask.sampling import Canvas
from remask.vocabulary import Vocabulary
from robustness.letters import MASK, checkpoint, log_probs

MODEL = checkpoint(seed=4)
DRAFTS = [Draft("ab", "cabca"), Draft("", "abc"), Draft("cba", "a"), Draft("aaaa", "bbbbbbbb", ended=True)]


def canvas(rows: list[tuple[list[int], list[int], list[int]]]) -> Canvas:
    """Rows of what stands before a draft, the draft, and what stands behind it."""
    made = Canvas.of([[*left, *[None] * len(draft), *right] for left, draft, right in rows])
    for i, (left, draft, _) in enumerate(rows):
        made.tokens[i, len(left) : len(left) + len(draft)] = torch.tensor(draft)
    return made


ROWS = canvas([([0, 1], [2, 2, 1, 0], [1]), ([], [0, 0, 0], []), ([2] * 5, [1, 2, 0, 1, 2, 0], [0, 0, 0])])


@pytest.mark.parametrize("choose", ["certainty", "random"])
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("rounds", [1, 3])
def test_fixed_positions_never_change(choose: Any, share: float, rounds: int) -> None:
    for seed in range(5):
        how = Revision(share=share, choose=choose, rounds=rounds, temperature=1.0, seed=seed)
        after = revise_tokens(MODEL, ROWS, how, [seed, seed + 1, seed + 2])
        changed = after != ROWS.tokens
        assert not (changed & ~ROWS.open).any() and (after[ROWS.open] < MASK).all()
        if rounds == 1:
            most = (share * ROWS.open.sum(1)).round().clamp(min=1)
            assert (changed.sum(1) <= most).all(), "no more than the share"


def test_all_is_written_anew_at_a_share_of_one() -> None:
    drafts = [
        revise_tokens(MODEL, canvas([([0, 1], text, [2])]), Revision(share=1.0), [3]) for text in ([2, 2], [0, 1])
    ]
    assert torch.equal(*drafts), "nothing of a draft is left"


def test_certainty_is_that_of_each_token_given_all_others() -> None:
    found = certainty(MODEL, ROWS)
    for i in range(len(ROWS.tokens)):
        row = ROWS.tokens[i, : int(ROWS.valid[i].sum())].tolist()
        for place in range(ROWS.tokens.shape[1]):
            expected = 0.0
            if ROWS.open[i, place]:
                given = log_probs(MODEL, [*row[:place], MASK, *row[place + 1 :]])
                expected = float(given[place, row[place]])
            assert float(found[i, place]) == pytest.approx(expected, abs=1e-4)


def test_the_least_certain_token_is_written_anew() -> None:
    for seed in range(8):
        text = torch.randint(0, 3, (5,), generator=torch.Generator().manual_seed(seed)).tolist()
        one = canvas([([1], text, [0])])
        least = int(certainty(MODEL, one).masked_fill(~one.open, torch.inf).argmin())
        row = one.tokens[0].tolist()
        given = log_probs(MODEL, [*row[:least], MASK, *row[least + 1 :]])
        after = revise_tokens(MODEL, one, Revision(share=0.2), [0])[0].tolist()
        assert after == [*row[:least], int(given[least].argmax()), *row[least + 1 :]]


def test_a_draft_depends_on_itself_and_the_seed_alone() -> None:
    how = Revision(share=0.6, choose="random", temperature=1.0, rounds=2)
    together = list(revise(MODEL, DRAFTS, how))
    assert together == [next(iter(revise(MODEL, [draft], how))) for draft in DRAFTS]
    for one, draft in zip(together, DRAFTS, strict=True):
        assert (one.prompt, one.draft, one.tokens) == (draft.prompt, draft.text, len(draft.text))
        assert one.changed == sum(a != b for a, b in zip(one.text, draft.text, strict=True))
    other = list(revise(MODEL, DRAFTS, Revision(share=0.6, choose="random", temperature=1.0, rounds=2, seed=1)))
    assert other != together


def test_a_revision_that_writes_an_end_shortens_the_text() -> None:
    vocabulary = Vocabulary(size=4, mask=MASK, end=2)  # c ends a text
    ending = replace(MODEL, family=Masked().over(vocabulary))
    drafts = [Draft("a", text) for text in ("abababab", "bbbbaaaa", "aaaaaaaa", "babbabba", "aabbaabb", "bbbbbbbb")]
    how = Revision(share=1.0, temperature=5.0)
    found, same = list(revise(ending, drafts, how)), list(revise(MODEL, drafts, how))
    assert [one.text for one in found] == [one.text.partition("c")[0] for one in same]
    assert sum("c" in one.text for one in same) > 2


def test_models_and_drafts_that_do_not_fit() -> None:
    with pytest.raises(RemaskError, match="fills masks in any order, and this one is Autoregressive"):
        list(revise(checkpoint(left=True), DRAFTS))
    with pytest.raises(RemaskError, match="draft 2 has 71 tokens with its prompt; the context is 64"):
        list(revise(MODEL, [DRAFTS[0], Draft("a", "b" * 70)]))
    with pytest.raises(RemaskError, match="draft 1 is empty"):
        list(revise(MODEL, [Draft("a", "")]))
    for wrong in ({"share": 0.0}, {"share": 1.1}, {"rounds": 0}):
        with pytest.raises(RemaskError, match=f"{next(iter(wrong))} is "):
            Revision(**wrong)
    with pytest.raises(RemaskError, match=r"unknown choose 'certain'\. Did you mean 'certainty'"):
        Revision(choose="certain")  # type: ignore[arg-type]


def test_files_of_drafts(tmp_path: Path) -> None:
    lines, printed = tmp_path / "drafts.jsonl", tmp_path / "samples.json"
    lines.write_text('{"text": "ab", "prompt": "c", "ended": true, "id": "x"}\n\n{"text": "b"}\n')
    printed.write_text(json.dumps([{"text": "ab", "prompt": "c", "ended": False, "tokens": [1]}, {"text": "b"}]))
    assert drafts_of(lines) == [("x", Draft("c", "ab", True)), (2, Draft("", "b"))]
    assert drafts_of(printed) == [(1, Draft("c", "ab")), (2, Draft("", "b"))]
    for content, says in (
        ("", "has no drafts"),
        ("{", "line 1: it is not JSON"),
        ('{"text": "a"}\n3', "line 2: it is not a JSON object"),
        ('{"prompt": "a"}', "line 1: the field 'text' must be text and not empty; the line has 'prompt'"),
        ('{"text": "a", "ended": 1}', "line 1: the field 'prompt' must be text, and 'ended' true or false"),
    ):
        lines.write_text(content)
        with pytest.raises(RemaskError) as error:
            drafts_of(lines)
        assert says in str(error.value) and "drafts.jsonl" in str(error.value)
    with pytest.raises(RemaskError, match="cannot read"):
        drafts_of(tmp_path / "nowhere")
    assert draft_of({"text": "a", "id": 7}, "here", 1) == (7, Draft("", "a"))
