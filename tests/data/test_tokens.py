"""Preparing a corpus: complete, repeatable, and resumable after a kill."""

import hashlib
import json
import os
import shutil
import signal
import time
from pathlib import Path

import killing
import numpy as np
import pytest
from corpora import write

from remask.data import shards
from remask.data.corpus import documents, stamp
from remask.data.tokenizer import Tokenizer
from remask.data.tokens import open_tokens, prepare
from remask.errors import RemaskError

RESULTS = ("train.ids", "train.bytes", "valid.ids", "valid.bytes", "tokenizer.json", "data.json")
SLOW = (
    "import sys, remask.data.shards as s, remask.data.tokens as t; "
    "s.CHUNK = 40_000; t.prepare(*sys.argv[1:], vocab_size=400)"
)


def contents(folder: Path) -> dict[str, bytes]:
    assert sorted(path.name for path in folder.iterdir() if path.name != ".lock") == sorted(RESULTS)
    return {name: (folder / name).read_bytes() for name in RESULTS}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    rng = np.random.default_rng(0)
    words = np.array(["cat", "sat", "café", "🎉", "the", "mat\n", "on", "and"])
    path.write_text("\n<|endoftext|>\n".join(" ".join(rng.choice(words, 200)) for _ in range(1500)))
    return path


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_every_document_is_in_one_split(corpus: Path, tmp_path: Path, tokenizer: str) -> None:
    prepared = prepare(str(corpus), tmp_path / "out", tokenizer=tokenizer, vocab_size=300)
    end = prepared.tokenizer.vocabulary.end
    found = []
    for name, split in (("train", prepared.train), ("valid", prepared.valid)):
        ends = np.flatnonzero(split.ids == end)
        assert (split.byte_lengths[ends] == 0).all()
        said = prepared.manifest[name]
        assert said["tokens"] == len(split)
        assert said["bytes"] == split.byte_lengths.sum()
        assert said["documents"] == len(ends)
        found += [prepared.tokenizer.decode(part) for part in np.split(split.ids, ends + 1)[:-1]]
    assert sorted(found) == sorted(document.text for document in documents(str(corpus)))
    assert 0.005 < prepared.manifest["valid"]["documents"] / 1500 < 0.04
    assert len(prepared.manifest["names"]) == prepared.manifest["valid"]["documents"]


def test_second_run_returns_at_once_and_a_change_prepares_anew(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = prepare(str(corpus), out, tokenizer="bytes")
    written = (out / "data.json").stat().st_mtime_ns
    assert prepare(str(corpus), out, tokenizer="bytes").manifest == first.manifest
    assert (out / "data.json").stat().st_mtime_ns == written
    smaller = prepare(str(corpus), out, tokenizer="bytes", max_bytes=20_000)
    assert 20_000 <= sum(smaller.manifest[s]["bytes"] for s in ("train", "valid")) < 22_000
    corpus.write_text("one\n<|endoftext|>\ntwo")
    assert prepare(str(corpus), out, tokenizer="bytes").manifest["train"]["documents"] == 1


def test_killed_run_goes_on_to_the_same_bytes(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "CHUNK", 40_000)
    prepare(str(corpus), tmp_path / "whole", vocab_size=400)
    killed = tmp_path / "killed"
    run = killing.begin(SLOW, tmp_path / "log", corpus, killed)
    deadline = time.monotonic() + 60
    while not list(killed.glob(".shards/*/000002.npz")) and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(run.pid, signal.SIGKILL)
    assert killing.finish(run) == -signal.SIGKILL
    assert not (killed / "data.json").exists()
    with pytest.raises(RemaskError, match="not a prepared corpus"):
        open_tokens(killed)

    holed = shutil.copytree(killed, tmp_path / "holed")
    next(holed.glob(".shards/*/000001.npz")).unlink()
    marked = shutil.copytree(killed, tmp_path / "marked")
    shard = next(marked.glob(".shards/*/000000.npz"))
    with np.load(shard) as arrays:
        np.savez(shard, **{**arrays, "train_ids": np.full_like(arrays["train_ids"], 7)})

    whole = contents(tmp_path / "whole")
    for folder in (killed, holed):
        prepare(str(corpus), folder, vocab_size=400)
        assert contents(folder) == whole
    prepare(str(corpus), marked, vocab_size=400)
    assert (np.fromfile(marked / "train.ids", "<u2")[:1000] == 7).all(), "a finished shard was not reused"


def test_validation_corpus_takes_the_place_of_the_share(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("held out")
    prepared = prepare(str(corpus), tmp_path / "out", tokenizer="bytes", validation=str(tmp_path / "other.txt"))
    assert prepared.tokenizer.decode(prepared.valid.ids) == "held out"
    assert prepared.manifest["train"]["documents"] == 1500
    assert prepared.manifest["names"] == ["other.txt#0"]


def test_two_documents_are_one_for_each_split(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo")
    prepared = prepare(str(tmp_path / "a.txt"), tmp_path / "out", tokenizer="bytes", separator="\n\n")
    assert [prepared.manifest[s]["documents"] for s in ("train", "valid")] == [1, 1]


def test_pieces_of_one_text_have_one_end(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"Line {i} of a long text.\n" for i in range(8000)))
    prepared = prepare(str(tmp_path / "a.txt"), tmp_path / "out", tokenizer="bytes", validation_share=0.2)
    assert sum(int((split.ids == 256).sum()) for split in (prepared.train, prepared.valid)) == 1
    assert sum(prepared.manifest[s]["bytes"] for s in ("train", "valid")) == (tmp_path / "a.txt").stat().st_size


def test_single_document_cannot_be_split(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("only one")
    with pytest.raises(RemaskError, match=r"--validation.*--separator"):
        prepare(str(tmp_path / "a.txt"), tmp_path / "out", tokenizer="bytes")


def test_large_vocabulary_takes_four_bytes(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    words = {chr(0x20000 + i): i for i in range(66_000)}
    Tokenizer(models.WordLevel(words, unk_token=chr(0x20000))).save(str(tmp_path / "words.json"))
    (tmp_path / "a.txt").write_text(f"{chr(0x20000 + 65_999)}\n\n{chr(0x20000 + 3)}")
    prepared = prepare(
        str(tmp_path / "a.txt"), tmp_path / "out", tokenizer=str(tmp_path / "words.json"), separator="\n\n"
    )
    assert prepared.manifest["dtype"] == "<u4"
    assert sorted([*prepared.train.ids, *prepared.valid.ids]) == [3, 65_999]


def test_damage_is_named(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match=r"no data\.json"):
        open_tokens(tmp_path)
    out = tmp_path / "out"
    prepare(str(corpus), out, tokenizer="bytes")
    whole = (out / "train.ids").read_bytes()
    (out / "train.ids").write_bytes(whole[:-2])
    with pytest.raises(RemaskError, match=rf"train\.ids is damaged: {len(whole) - 2} bytes.*{len(whole)}"):
        open_tokens(out)
    assert prepare(str(corpus), out, tokenizer="bytes").manifest["train"]["tokens"] == len(whole) // 2
    manifest = json.loads((out / "data.json").read_text())
    (out / "data.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(RemaskError, match="format 99"):
        open_tokens(out)
    (out / "data.json").write_text("{")
    with pytest.raises(RemaskError, match="damaged"):
        open_tokens(out)


@pytest.mark.parametrize("options", [{"validation_share": 0.0}, {"validation_share": 1.5}, {"max_bytes": 0}])
def test_options_out_of_range_are_named(corpus: Path, tmp_path: Path, options: dict[str, float]) -> None:
    with pytest.raises(RemaskError, match=next(iter(options))):
        prepare(str(corpus), tmp_path / "out", **options)  # type: ignore[arg-type]


def test_what_is_not_read_is_said_once_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "corpus"
    for i in range(5):
        write(folder / f"image{i}.png", b"\x89PNG\0")
    write(folder / "a.jsonl", '{"text": "one"}\n{"text": 2}\n{"text": "three"}\n')
    with pytest.raises(RemaskError, match=r"a\.jsonl, line 2: field 'text' is not text but a number"):
        prepare(str(folder), tmp_path / "out", tokenizer="bytes")
    prepared = prepare(str(folder), tmp_path / "out", tokenizer="bytes", undecodable="skip")
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("not read")] == [
        "not read: files that look binary (5): image0.png, image1.png, image2.png, ...",
        "not read: records that cannot be read (1): a.jsonl, line 2 (field 'text' is not text but a number)",
    ]
    assert prepared.manifest["not_read"] == {"files that look binary": 5, "records that cannot be read": 1}


def test_a_tokenizer_without_an_end_is_named_and_an_option_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tokenizers import Tokenizer, models

    words = tmp_path / "words.json"
    Tokenizer(models.WordLevel({"one": 0, "two": 1, "<stop>": 2}, unk_token="one")).save(str(words))
    corpus = str(write(tmp_path / "a.txt", "one\n<|endoftext|>\ntwo\n"))
    prepared = prepare(corpus, tmp_path / "out", tokenizer=str(words))
    assert "has no end-of-text token of a usual name" in (said := capsys.readouterr().err) and "--end NAME" in said
    assert prepared.tokenizer.vocabulary.end is None and len(prepared.train) == 1
    for end in ("<stop>", "2"):
        prepared = prepare(corpus, tmp_path / "out", tokenizer=str(words), end=end)
        assert "end-of-text" not in capsys.readouterr().err
        assert prepared.tokenizer.vocabulary.end == 2 and prepared.train.ids[-1] == 2
    with pytest.raises(RemaskError, match="has no token '<halt>'; its special tokens are"):
        prepare(corpus, tmp_path / "out", tokenizer=str(words), end="<halt>")
    with pytest.raises(RemaskError, match="the tokenizer bytes has an end-of-text token of its own"):
        prepare(corpus, tmp_path / "out", tokenizer="bytes", end="<stop>")
    prepare(corpus, tmp_path / "out", tokenizer=str(words))
    assert open_tokens(tmp_path / "out").tokenizer.vocabulary.end is None, "of the folder before"


def test_what_is_given_in_place_of_a_prepared_folder_is_named(tmp_path: Path) -> None:
    text = write(tmp_path / "a.txt", "text")
    for path, message in (
        (text, rf"'{text}' is a file and not a prepared folder: make one with `remask prepare {text} --out DIR`"),
        (tmp_path, r"is not a prepared corpus: it has no data\.json.*`remask prepare"),
        (tmp_path / "none", r"no prepared corpus at .*none'"),
        (tmp_path / "chats.jsonl", r"there is no file .*chats\.jsonl'; conversations are a file of JSON Lines"),
        ("stdlib", "'stdlib' is a corpus and not a prepared folder"),
    ):
        with pytest.raises(RemaskError, match=message):
            open_tokens(path)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / os.fsdecode(b"in\xff") / os.fsdecode(b"\xe9%d" % i), f"text {i}")
    out = tmp_path / os.fsdecode(b"out\xff")
    prepared = prepare(str(tmp_path / os.fsdecode(b"in\xff")), out, tokenizer="bytes", validation_share=0.6)
    assert all(name.startswith("\udce9") for name in prepared.manifest["names"])
    with pytest.raises(RemaskError, match=r"separator is .* is not UTF-8"):
        prepare(str(tmp_path), out, tokenizer="bytes", separator="\udcff")


def test_a_folder_of_something_else_is_not_written_into(tmp_path: Path) -> None:
    corpus = write(tmp_path / "texts" / "a.txt", "one\n<|endoftext|>\ntwo")
    model, words = tmp_path / "model", tmp_path / "words"
    write(model / "config.json", "{}")
    Tokenizer.bytes().save(write(words / "tokenizer_config.json", "{}").parent)
    for out, options, what in (
        (corpus.parent, {"source": str(corpus.parent)}, "which is the corpus itself"),
        (corpus, {}, "which is the corpus itself"),
        (words, {"tokenizer": str(words)}, "which is the tokenizer itself"),
        (words, {"tokenizer": str(words / "tokenizer.json")}, "which is the tokenizer itself"),
        (model, {}, "which holds a checkpoint"),
        (corpus / "inside", {}, "cannot be written into"),
    ):
        with pytest.raises(RemaskError, match=what):
            prepare(**{"source": str(corpus), "tokenizer": "bytes", **options}, out=out)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        "a.txt", "config.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip


def test_folders_prepared_before_are_still_read(corpus: Path, tmp_path: Path) -> None:
    """Options that came later are absent from the fingerprint as long as they are not used."""
    options = dict.fromkeys(("validation", "max_bytes", "separator"))
    options |= {"source": str(corpus), "validation_share": 0.02, "tokenizer": "bytes", "vocab_size": None}
    options |= {"field": "text", "undecodable": "stop"}
    text = json.dumps([1, options, [stamp(str(corpus))], None], sort_keys=True)
    prepared = prepare(str(corpus), tmp_path / "out", tokenizer="bytes")
    assert prepared.manifest["fingerprint"] == hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
