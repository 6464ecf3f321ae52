"""The command line: what it prints, where, and with which exit status."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from remask import cli

ROOT = Path(__file__).parents[1]


class Ran:
    """What a command printed and how it ended."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


@pytest.fixture
def remask(capfd: pytest.CaptureFixture[str]) -> Any:
    """`remask("sample", run, "--json")` in this process."""

    def run(*arguments: object) -> Ran:
        capfd.readouterr()
        status = 0
        try:
            cli.main([str(a) for a in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return Ran(status, out, err)

    return run


def process(*arguments: str) -> Ran:
    """A process of its own."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)
    return Ran(done.returncode, done.stdout, done.stderr)


def test_help_names_every_verb_and_imports_nothing_heavy() -> None:
    done = process("-X", "importtime", "-m", "remask", "--help")
    assert done.status == 0
    for name, verb in cli.VERBS.items():
        assert name in done.out and verb.summary in done.out
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.err.splitlines()}
    assert "remask" in imported
    assert not imported & {"torch", "lightning", "numpy", "jsonargparse", "datasets", "transformers"}


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import remask, sys; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    assert not {"torch", "numpy", "lightning"} & set(process("-c", code).out.split())


LIGHT = (
    "bench infill", "chat", "classify", "convert", "info", "perplexity", "prepare", "quality", "revise", "rows",
    "sample", "scale fit", "scale report", "score",
)  # fmt: skip
"""Verbs whose options are known without the network."""


def test_help_of_light_verbs_imports_no_torch() -> None:
    code = """
import sys
from remask import cli
for verb in sys.argv[1:]:
    try:
        cli.main([*verb.split(), "--help"])
    except SystemExit as end:
        assert not end.code
    assert not {"torch", "lightning"} & set(sys.modules), verb
"""
    done = process("-c", code, *LIGHT)
    assert done.status == 0, done.err
    assert all(f"usage: remask {verb} " in done.out for verb in LIGHT)


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_help_of_a_verb(remask: Any, verb: str) -> None:
    done = remask(verb, "--help")
    assert done.status == 0 and done.err == ""
    assert f"usage: remask {verb}" in done.out
    for name in cli.VERBS[verb].positional:
        assert name in done.out


def test_version(remask: Any) -> None:
    import remask as package

    assert remask("--version").out == f"remask {package.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 2, "usage: remask VERB"),
        (["smaple"], 2, "unknown verb 'smaple'. Did you mean 'sample'? Known:"),
        (["xyz"], 2, "Known: answer, bench guidance, "),
        (["train", "--family", "Maskd"], 2, "unknown family 'Maskd'. Did you mean 'Masked'? Known: Autoregressive"),
        (["train", "--family=Nothing"], 2, "Known: Autoregressive"),
        (["train", "--data", "d", "--out", "o", "--colour", "red"], 2, "unknown option --colour"),
        (["train", "--famly", "Masked"], 2, "unknown option --famly. Did you mean --family?"),
        (["train", "--optimizer.learning_rate", "1"], 2, "Did you mean --optimizer.lr?"),
        (["train", "--config", ".", "--data", "d", "--out", "o"], 2, "config is '.', which is no recipe in YAML"),
        (["scale", "pln"], 2, "unknown verb 'scale pln'. Did you mean 'scale plan'?"),
        (["train", "--out", "o"], 2, "data"),
        (["train", "--data", "d", "--out", "o", "--length", "many"], 2, "length is 'many'; it must be a whole number"),
        (["train", "--data", "d", "--out", "o", "--precision", "fp8"], 2, "fp8"),
        (["train", "--config", "nowhere.yaml", "--data", "d", "--out", "o"], 2, "nowhere.yaml"),
        (["sample"], 2, "RUN must be given"),
        (["sample", "x", "--nonsense"], 2, "--nonsense"),
        (["train", "--data", "nowhere", "--out", "o"], 1, "no prepared corpus at 'nowhere'"),
        (["prepare", "nowhere.txt", "--out", "o"], 1, "nowhere.txt"),
        (["prepare", "synthetic:colour=1", "--out", "o"], 1, "unknown option of a synthetic corpus 'colour'"),
        (["sample", "nowhere"], 1, "no checkpoint at nowhere"),
        (["score", "nowhere", "--text", "a"], 1, "no checkpoint at nowhere"),
        (["score", "nowhere"], 1, "give --text, --file or --ids, one of them"),
        (["info", "nowhere"], 1, "no checkpoint at nowhere"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else None,
)
def test_wrong_use_and_failure(
    remask: Any, arguments: list[str], status: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = remask(*arguments)
    assert done.status == status
    assert says in (done.out + done.err if not arguments else done.err)
    assert arguments == [] or done.out == ""
    if status == 1:
        assert done.err.startswith("remask: ") and len(done.err.strip().splitlines()) <= 2
    assert not (tmp_path / "o" / "run.json").exists()


def test_from_text_to_scores(remask: Any, tmp_path: Path) -> None:
    """prepare, train, info, sample, infill and score, one after another, by their commands."""
    text = tmp_path / "corpus.txt"
    text.write_text("".join(f"{i} and {i} is {2 * i}.\n<|endoftext|>\n" for i in range(300)))
    data, run = tmp_path / "data", tmp_path / "run"
    done = remask("prepare", text, "--out", data, "--tokenizer", "bytes")
    assert done.status == 0 and "train: " in done.out and str(data) in done.out
    tiny = "--architecture.layers 1 --architecture.width 32 --architecture.heads 2 --architecture.ffn 64 --length 32"
    tiny += " --batch 8 --budget.steps 30 --precision fp32 --compile off --accelerator cpu --architecture.context 48"
    done = remask("train", "--data", data, "--out", run, *tiny.split())
    assert (done.status, done.out) == (0, "")
    assert "30 steps" in done.err

    found = remask("info", run, "--json").document
    assert found["layers"] == 1 and found["context"] == 48 and "Masked" in found["family"]
    assert "30 of 30" in remask("info", run).out

    written = remask("sample", run, "--prompt", "7 and ", "--length", 9, "--json", "--seed", 3, "--no-stop").document
    assert len(written) == 1 and written[0]["prompt"] == "7 and " and len(written[0]["tokens"]) == 9
    again = remask("sample", run, "--prompt", "7 and ", "--length", 9, "--seed", 3, "--no-stop")
    assert again.out == "7 and " + written[0]["text"] + "\n"

    filled = remask("sample", run, "--infill", "7 and [MASK:3] is 14.", "--json").document[0]
    assert len(filled["tokens"]) == 3

    scored = remask("score", run, "--text", "7 is 14", "--draws", 16, "--json").document
    assert scored["kind"] == "bound" and scored["tokens"] == scored["bytes"] == 7 and scored["stderr"] > 0
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):  # a byte-order mark is no text
        (tmp_path / "text").write_text("7 is 14", encoding=encoding)
        from_file = remask("score", run, "--file", tmp_path / "text", "--draws", 16, "--json").document
        assert from_file == scored


@pytest.mark.parametrize("which", ["masked_run", "autoregressive_run"])
def test_json_is_the_only_output(remask: Any, request: pytest.FixtureRequest, which: str) -> None:
    run = request.getfixturevalue(which)
    for arguments in (
        ["sample", run, "--length", 8, "--json"],
        ["sample", run, "--length", 8, "--count", 3, "--json", "--temperature", 0.5, "--top_k", 5, "--top-p", 0.9],
        ["sample", run, "--length", 8, "--watch", "--json"],
        ["score", run, "--text", "abcabc", "--prompt", "ab", "--draws", 8, "--json"],
        ["info", run, "--json"],
    ):
        done = remask(*arguments)
        assert done.status == 0, done.err
        assert done.document
        assert done.out.count("\n") == 1
    exact = which == "autoregressive_run"
    found = remask("score", run, "--text", "abcabc", "--draws", 8, "--json").document
    assert (found["kind"], found["stderr"] == 0) == (("exact", True) if exact else ("bound", False))
    said = remask("score", run, "--text", "abcabc", "--draws", 8).out
    assert ("-log p = " in said and "(exact)" in said) if exact else ("-log p <= " in said and "+-" in said)


def test_weights_of_8_bits_and_packed_ones_are_named(remask: Any, masked_run: Path) -> None:
    sample = ["sample", masked_run, "--length", 8, "--count", 2, "--json"]
    plain = ["score", masked_run, "--text", "abcabc", "--json"]
    rounded = remask(*sample, "--precision", "int8")
    assert "weights of 8 bits (int8)" in rounded.err and len(rounded.document) == 2
    packed = remask(*sample, "--pack", "--precision", "fp32")
    assert "packed weights gain nothing" in packed.err, "the network is too small"
    assert packed.document == remask(*sample, "--precision", "fp32").document
    one, two = remask(*plain).document["nats"], remask(*plain, "--precision", "int8").document["nats"]
    assert 0 < abs(one - two) < 0.05 * one


def test_samples_do_not_depend_on_their_batch(remask: Any, masked_run: Path) -> None:
    common = ["--length", 8, "--json", "--prompt", "ab", "--sampler", "Confidence", "--steps", 4, "--block", 4]
    one = remask("sample", masked_run, *common).document
    three = remask("sample", masked_run, *common, "--count", 3).document
    assert len(three) == 3 and three[0]["tokens"] == one[0]["tokens"]
    assert 0 < one[0]["evaluations"] <= 4


def test_without_a_length_the_text_fills_what_the_context_leaves(remask: Any, masked_run: Path) -> None:
    (text,) = remask("sample", masked_run, "--prompt", "a" * 40, "--no-stop", "--json").document
    assert len(text["tokens"]) == 24
    done = remask("sample", masked_run, "--length", 128)
    assert done.status == 1 and "length is 128; it must be at most the context of 64" in done.err


def test_watching_does_not_disturb_the_text(remask: Any, masked_run: Path) -> None:
    plain = remask("sample", masked_run, "--length", 8)
    watched = remask("sample", masked_run, "--length", 8, "--watch")
    assert watched.out == plain.out and "step 1/" in watched.err


def test_a_text_that_is_lengthened_while_it_is_written(remask: Any, masked_run: Path) -> None:
    way = ["--prompt", "ab", "--length", 12, "--sampler", "Threshold", "--block", 4, "--no-stop", "--precision", "fp32"]
    short = remask("sample", masked_run, *way, "--json", "--expand", "DAEDAL:initial=5,append_below=0,insert_below=0")
    assert len(short.document[0]["tokens"]) == 5
    longest = ["--expand", "DAEDAL:initial=5,add=3,append_below=1"]
    plain = remask("sample", masked_run, *way, *longest)
    assert len(remask("sample", masked_run, *way, *longest, "--json").document[0]["tokens"]) == 12
    watched = remask("sample", masked_run, *way, *longest, "--watch")
    assert watched.out == plain.out and "step 1/" in watched.err
    first = next(line for line in watched.err.splitlines() if line.startswith("step 1/"))
    assert first.count("\u2591\u2591") == 8, "after the first step three masks are appended to five"


def test_guidance(remask: Any, masked_run: Path, autoregressive_run: Path) -> None:
    arguments = ["--prompt", "abc", "--length", 4, "--guidance", 1.5, "--json", "--sampler", "FirstHitting"]
    assert remask("sample", masked_run, *arguments).document[0]["evaluations"] == 8
    done = remask("sample", autoregressive_run, "--prompt", "abc", "--guidance", 1.5, "--length", 4)
    assert done.status == 1 and "guidance needs a model that reads masks" in done.err


def test_a_preset_is_overruled_by_options(remask: Any, masked_run: Path, tmp_path: Path) -> None:
    def passes(*arguments: object) -> int:
        way = ("--length", 8, "--precision", "fp32", "--no-stop", "--json", *arguments)
        return remask("sample", masked_run, *way).document[0]["evaluations"]

    assert passes("--preset", "llada") == passes("--preset=llada", "--temperature", 1) == 8
    assert passes("--steps", 2, "--preset", "llada") == 2  # wherever it stands
    assert passes("--preset", "smdm", "--preset", "llada") == 8, "the last one counts, and only that"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("preset: llada\n")
    done = remask("sample", masked_run, "--config", recipe)
    assert done.status == 2 and "names a preset; give --preset on the command line" in done.err
    done = remask("sample", masked_run, "--preset", "lada")
    assert done.status == 2 and "unknown preset 'lada'. Did you mean 'llada'" in done.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--prompt", "a" * 60, "--length", 5], "60 tokens of text and 5 to write are beyond the context of 64"),
        (["--length", 0], "length is 0; it must be at least 1"),
        (["--infill", "no hole"], "has no hole"),
        (["--infill", "a [MASK:0] hole"], "[MASK:0] is a hole of no tokens"),
        (["--infill", "a [MASK:99] hole"], "beyond the context of 64"),
        (["--infill", f"a [MASK:{'9' * 5000}]"], "beyond the context of 64"),
        (["--infill", "\udcff [MASK:2]"], "holds '\\udcff', which is no character; a text must be UTF-8"),
        (["--prompt", "a\udcff"], "a text must be UTF-8"),
        (["--infill", "a [MASK:2]", "--prompt", "b"], "give --prompt, --ids or --infill, one of them"),
        (["--infill", "a [MASK:2]", "--count", 2], "count is 2; it must be"),
        (["--sampler", "Confident"], "unknown sampler 'Confident'. Did you mean 'Confidence'?"),
        (["--sampler", "LeftToRight"], "LeftToRight does not fit Masked"),
        (["--temperature", -1], "temperature is -1"),
        (["--top_p", 0], "top_p is 0"),
        (["--top_k", -2], "top_k is -2"),
        (["--steps", 0], "steps is 0"),
        (["--block", 0], "block is 0"),
        (["--count", 0], "count is 0; it must be at least 1"),
        (["--device", "tpu9"], "device is 'tpu9'; it must be auto, cpu or cuda"),
        (["--device", "meta"], "device is 'meta'"),
        (["--device", "mps"], "device is 'mps'"),
    ],
    ids=lambda x: " ".join(map(str, x))[:30] if isinstance(x, list) else "",
)
def test_samples_that_cannot_be(remask: Any, masked_run: Path, arguments: list, says: str) -> None:
    done = remask("sample", masked_run, *arguments, *([] if "--length" in arguments else ["--length", 4]))
    assert (done.status, done.out) == (1, "")
    assert says in done.err and len(done.err.strip().splitlines()) <= 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--text", ""], "nothing to score"),
        (["--text", "a", "--file", "b"], "give --text, --file or --ids"),
        (["--file", "nowhere"], "cannot read nowhere"),
        (["--text", "a", "--draws", 0], "draws is 0"),
        (["--text", "a" * 60, "--prompt", "b" * 5], "60"),
        (["--text", "a\ud800"], "holds '\\ud800', which is no character; a text must be UTF-8"),
        (["--text", "a", "--prompt", "\udc80"], "a text must be UTF-8"),
        (["--ids", "1", "--prompt_ids", "2", "--prompt", "a"], "give --prompt or --prompt_ids"),
        (["--text", "ab", "--sampler", "Confidence"], 'are for estimator "rule"'),
    ],
    ids=lambda x: " ".join(map(str, x))[:30] if isinstance(x, list) else "",
)
def test_scores_that_cannot_be(remask: Any, masked_run: Path, arguments: list, says: str) -> None:
    done = remask("score", masked_run, *arguments)
    assert (done.status, done.out) == (1, "")
    assert says in done.err


def test_an_unknown_error_is_shown(remask: Any, masked_run: Path) -> None:
    done = remask("score", masked_run, "--text", "ab", "--estimator", "smdm", "--draws", 2, "--strata", 2)
    assert done.status == 0 and done.out.count("+- nan") == 2


def test_a_file_that_is_not_text(remask: Any, masked_run: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"abc\xff")
    done = remask("score", masked_run, "--file", tmp_path / "bad")
    assert done.status == 1 and "not UTF-8: byte 3 is 0xff" in done.err


def test_the_published_config_is_read_back(remask: Any, masked_run: Path, tmp_path: Path, corpus: Path) -> None:
    """`config.yaml` of a run is a recipe: everything in it, re-runnable, gives the same weights."""
    done = remask("train", "--config", masked_run / "config.yaml", "--out", tmp_path / "again", "--data", corpus)
    assert done.status == 0, done.err
    one, two = (path / "latest" / "model.safetensors" for path in (masked_run, tmp_path / "again"))
    assert one.read_bytes() == two.read_bytes()


def test_a_process_of_its_own_ends_with_the_status() -> None:
    assert process("-m", "remask", "info", "nowhere").status == 1
    assert process("-m", "remask", "nonsense").status == 2


def test_other_peoples_weights_by_the_command_line(remask: Any, plain_runs: dict[str, Path], tmp_path: Path) -> None:
    """Out as a Llama; in as the beginning of a masked model, by flags with dashes; what it is, and a text from it."""
    llama, masked = tmp_path / "llama", tmp_path / "masked"
    assert remask("convert", plain_runs["left"], llama, "--to", "llama").status == 0
    done = remask("convert", llama, masked, "--from", "llama", "--family", "Masked", "--shift", "--norm-eps", "1e-6")
    assert done.status == 0 and "next: remask sample" in done.out
    found = remask("info", masked, "--json").document
    assert found["form"] == "remask" and "Masked" in found["family"] and "mask 257" in found["vocabulary"]
    shown = remask("info", llama)
    assert "none: every tensor is there" in shown.out and "llama" in shown.out
    (sample,) = remask("sample", llama, "--ids", "97,98", "--length", 4, "--no-stop", "--json").document
    assert len(sample["tokens"]) == 4
    scored = remask("score", llama, "--ids", "97,98,99", "--json").document
    assert scored["kind"] == "exact" and scored["tokens"] == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sample", "RUN", "--ids", "1,x"], "ids are whole numbers with commas"),
        (["sample", "RUN", "--ids", "1,999", "--length", "4"], "id 999 is not among the model's 258"),
        (["sample", "RUN", "--ids", "1", "--prompt", "a"], "give --prompt, --ids or --infill, one of them"),
        (["sample", "RUN", "--chat", "--ids", "1"], "--chat and --template go with --prompt"),
        (["sample", "RUN", "--chat", "--prompt", "a"], "no chat template"),
        (
            ["sample", "RUN", "--sampler", "LLaDA:late=1", "--length", "4"],
            "unknown option of LLaDA 'late'. Did you mean 'late_end'",
        ),
        (["sample", "RUN", "--sampler", "LLaDA:late_end", "--length", "4"], "late_end has no value; write late_end="),
        (["score", "RUN", "--ids", "257"], "id 257 is never predicted"),
        (["score", "RUN", "--text", "a", "--prompt_ids", "1"], "--prompt_ids goes with --ids"),
        (["score", "RUN", "--text", "abc", "--estimator", "llada", "--strata", "3"], "it must divide the 128 draws"),
        (["convert", "RUN", "RUN"], "exists and is kept"),
        (["convert", "RUN", "out", "--to", "gguf"], "unknown format to write 'gguf'. Known: llada, llama"),
        (["convert", "RUN", "out", "--heads", "2"], "says all about itself; heads is for other people's weights"),
        (["info", "RUN", "--heads", "2"], "says all about itself"),
    ],
    ids=lambda x: " ".join(x)[:40] if isinstance(x, list) else "",
)
def test_what_cannot_be_asked_of_weights(
    remask: Any, masked_run: Path, arguments: list, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = remask(*[str(masked_run) if a == "RUN" else a for a in arguments])
    assert (done.status, done.out) == (1, "")
    assert says in done.err and len(done.err.strip().splitlines()) <= 2


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]], ids=" ".join)
def test_output_that_cannot_be_written(arguments: list[str]) -> None:
    """A reader that goes away ends the command quietly, a full disk with one line."""
    command = [sys.executable, "-m", "remask", *arguments]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "remask: [Errno 28] No space left on device\n"


def test_output_that_is_closed_or_lacks_a_character(tmp_path: Path) -> None:
    done = subprocess.run(["sh", "-c", f"{sys.executable} -m remask --version >&-"], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    (tmp_path / "a.txt").write_text("one\n<|endoftext|>\ntwo")
    command = [sys.executable, "-m", "remask", "prepare", tmp_path / "a.txt", "--tokenizer", "bytes", "--out"]
    for name, shown in ((b"\xff", b"\\udcff"), ("é".encode(), b"\\xe9")):
        out = tmp_path / os.fsdecode(name)
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        done = subprocess.run([*command, out], cwd=ROOT, capture_output=True, env=environment)
        assert done.returncode == 0 and b"/" + shown + b"; next" in done.stdout


def test_ctrl_c(remask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(name: str, arguments: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "call", interrupt)
    done = remask("info", "x")
    assert (done.status, done.out, done.err) == (130, "", "\nremask: interrupted\n")
