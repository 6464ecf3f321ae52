"""Scoring a text with a loaded model."""

from tables import tiny

from remask.checkpoints.checkpoint import Checkpoint
from remask.data.tokenizer import Tokenizer
from remask.families.masked import Masked
from remask.scoring import split


def test_equal_pieces_of_a_long_text_have_noise_of_their_own() -> None:
    """Else their errors would be the same, and the error of the whole text, which adds squares, too small."""
    tokenizer = Tokenizer.bytes()
    family = Masked().over(tokenizer.vocabulary)
    m = Checkpoint(tiny(family.vocabulary.size, family.vocabulary.predicted, context=8), family, tokenizer, {})
    pieces = split(m, "abcdefgh" * 3 + "abc")
    assert [len(piece.target) for piece in pieces] == [8, 8, 8, 3]
    assert len({piece.noise_seed(0) for piece in pieces}) == 4
    assert split(m, "abcdefgh" * 2)[1] == pieces[1], "whatever follows"
    assert split(m, "abcdefgh")[0].noise_seed(0) == pieces[0].noise_seed(0), "the first as if it stood alone"
