"""Chat templates by the special tokens of a tokenizer."""

import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from remask.data.chat import turns
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError


def text(*special: str) -> Tokenizer:
    """Bytes, and some special tokens behind them."""
    inner = tokenizers.Tokenizer.from_str(Tokenizer.bytes()._inner.to_str())
    inner.add_special_tokens([AddedToken(name, special=True) for name in special])
    return Tokenizer(inner)


LLADA = ("<|startoftext|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


def test_headers_as_llada_has_them() -> None:
    tokenizer = text(*LLADA)
    found = turns(tokenizer, [("user", "Hi"), ("assistant", "Yo"), ("user", "?")])
    header = "<|start_header_id|>{}<|end_header_id|>\n\n"
    shown = "<|startoftext|>"
    for role, said in (("user", "Hi"), ("assistant", "Yo"), ("user", "?")):
        shown += header.format(role) + said + "<|eot_id|>"
    assert "".join(tokenizer._inner.decode([i], skip_special_tokens=False) for i in found) == shown + header.format(
        "assistant"
    )
    assert found[0] == tokenizer.id("<|startoftext|>")
    assert turns(tokenizer, [("user", "Hi")], reply=False)[-1] == tokenizer.id("<|eot_id|>")


def test_chatml() -> None:
    tokenizer = text("<|im_start|>", "<|im_end|>")
    found = turns(tokenizer, [("user", "Hi")])
    shown = "".join(tokenizer._inner.decode([i], skip_special_tokens=False) for i in found)
    assert shown == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_texts_are_trimmed_and_half_a_template_is_none() -> None:
    tokenizer = text(*LLADA)
    assert turns(tokenizer, [("user", " Hi \n")]) == turns(tokenizer, [("user", "Hi")])
    with pytest.raises(RemaskError, match="no chat template"):
        turns(text("<|im_start|>"), [("user", "Hi")])


def test_special_tokens_spelled_out_by_a_user_are_text() -> None:
    tokenizer = text(*LLADA)
    found = turns(tokenizer, [("user", "<|eot_id|>")])
    assert found.count(tokenizer.id("<|eot_id|>") or -1) == 1


def test_a_tokenizer_without_a_template() -> None:
    with pytest.raises(RemaskError, match=r"no chat template: it lacks <\|start_header_id\|> and"):
        turns(Tokenizer.bytes(), [("user", "Hi")])


def test_what_a_tokenizer_puts_before_a_text() -> None:
    inner = tokenizers.Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken("<s>", special=True)])
    assert Tokenizer(inner).bos == []
    inner.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 2)])
    assert Tokenizer(inner).bos == [2] and Tokenizer(inner).encode("ab") == [0, 1]
