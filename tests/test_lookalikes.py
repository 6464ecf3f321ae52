"""Files that are something else than what they are taken for are named for what they are."""

from pathlib import Path

import pytest

from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.lookalikes import beginning, lookalike

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
SENTENCEPIECE = b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02\n\x0c\n\x03<s>\x15\x00\x00\x00\x00\x18\x03"
KINDS = {
    "pointer": (POINTER, r"pointer of Git LFS.*git lfs pull"),
    "gguf": (b"GGUF\3\0\0\0", r"GGUF form of llama\.cpp, which remask does not read"),
    "page": (b"\n<!DOCTYPE html>\n<html><title>Sign in</title>", "a web page.*download it again"),
    "xml": (b'<?xml version="1.0"?><Error>AccessDenied</Error>', "a web page"),
    "sentencepiece": (SENTENCEPIECE, r"a SentencePiece model.*AutoTokenizer\.from_pretrained"),
    "tiktoken": (b"IQ== 0\nIg== 1\n", "a tiktoken vocabulary"),
    "gzip": (b"\x1f\x8b\x08\0", "compressed with gzip: unpack it"),
    "zstd": (b"\x28\xb5\x2f\xfd\0", "compressed with zstd"),
    "keras": (b"\x89HDF\r\n\x1a\n", "HDF5"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_file_is_instead(kind: str, tmp_path: Path) -> None:
    content, says = KINDS[kind]
    (tmp_path / "tokenizer.json").write_bytes(content)
    assert lookalike(tmp_path / "tokenizer.json")
    with pytest.raises(RemaskError, match=rf"tokenizer\.json is .*{says}") as caught:
        Tokenizer.load(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_published_sentencepiece_model_is_seen() -> None:
    path = Path(__file__).parents[1] / "../shared/data/tokenizers/tinyllama_tokenizer.model"
    if not path.is_file():
        pytest.skip("the published model is not on this machine")
    assert "SentencePiece" in str(lookalike(path))


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\n\x0e", b"hello", b"PK\x03\x04", b"\x80\x02}q\x00.", "\n\nÄ".encode()], ids=repr
)
def test_other_files_are_left_to_whoever_opens_them(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    assert lookalike(tmp_path / "x") is None and lookalike(tmp_path / "none") is None


def test_text_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("Entry not\nfound\n")
    (tmp_path / "y").write_bytes(b"\x80\x02}q\x00.")
    (tmp_path / "z").write_text("é" * 900)
    assert beginning(tmp_path / "x") == "Entry not found" and beginning(tmp_path / "y") is None
    assert beginning(tmp_path / "z") == "é" * 60
