"""remask as a model of lm-evaluation-harness: the numbers of both on the same items, rolling, generation, chat."""

import json
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import yaml
from zero_shot_rows import publish, short_rows, write_rows

import remask
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.evaluation.zeroshot.command import Settings, evaluate
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed: pip install 'remask[eval]'")

from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

from remask.harness.__main__ import main
from remask.harness.chat import WithChat, chat_text
from remask.harness.model import RemaskLM, cut, stop_strings
from remask.harness.windows import windows

CHOICE = {
    "task": "local_choice",
    "output_type": "multiple_choice",
    "doc_to_text": "{{query}}\nAnswer:",
    "doc_to_choice": "choices",
    "doc_to_target": "gold",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}
WORD = {
    "task": "local_word",
    "output_type": "loglikelihood",
    "doc_to_text": "{{context}}",
    "doc_to_target": "{{' ' + continuation}}",
    "metric_list": [{"metric": "acc"}, {"metric": "perplexity", "aggregation": "perplexity"}],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, two files, and two tasks that read them."""
    folder = tmp_path_factory.mktemp("harness")
    publish(folder / "masked", Masked())
    publish(folder / "left", Autoregressive(), seed=1)
    rows = [{**row, "choices": [*row["choices"], "long answer"]} for row in short_rows()]
    write_rows(folder / "arc_easy.jsonl", rows)
    words = [{"context": f"number {i} is", "continuation": "ab"} for i in range(6)]
    write_rows(folder / "lambada_openai.jsonl", words)
    for task, file in ((CHOICE, "arc_easy.jsonl"), (WORD, "lambada_openai.jsonl")):
        source = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(folder / file)}}}
        (folder / "tasks").mkdir(exist_ok=True)
        (folder / "tasks" / f"{task['task']}.yaml").write_text(yaml.safe_dump({**task, **source, "test_split": "test"}))
    return folder


@pytest.fixture(autouse=True)
def cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data sets are kept in the folder, and the harness looks for tasks only where it is told: its own 14,000 files
    take it longer than all of these tests."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
    monkeypatch.setattr(TaskManager, "__init__", partialmethod(TaskManager.__init__, include_defaults=False))


def request(kind: Any, *arguments: Any) -> Instance:
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


@pytest.mark.parametrize("name", ["masked", "left"])
def test_numbers_are_those_of_remask_eval(folder: Path, tmp_path: Path, name: str) -> None:
    run = str(folder / name)
    manager = TaskManager(include_path=str(folder / "tasks"))
    draws = {} if name == "left" else {"draws": 16}
    options = ",".join(f"{key}={value}" for key, value in {"path": run, "seed": 3, **draws}.items())
    tasks = ["local_choice", "local_word"]
    theirs: Any = simple_evaluate("remask", options, tasks=tasks, task_manager=manager, bootstrap_iters=0)
    settings = Settings(seed=3, **draws)
    ours = evaluate([run], "arc_easy,lambada_openai", folder, out=tmp_path / "out", settings=settings)["results"]
    local = {"arc_easy": "local_choice", "lambada_openai": "local_word"}
    assert len(ours) == 4
    for one in ours:
        assert theirs["results"][local[one["task"]]][f"{one['metric']},none"] == one["value"]


def test_from_the_command_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m remask.harness` is `lm_eval` with the model."""
    command = ["remask.harness", "--model", "remask", "--tasks", "local_choice", "--limit", "4"]
    command += ["--model_args", f"path={folder / 'left'}", "--include_path", str(folder / "tasks")]
    monkeypatch.setattr("sys.argv", [*command, "--output_path", str(tmp_path)])
    main()
    (file,) = tmp_path.rglob("results*.json")
    theirs = json.loads(file.read_text())["results"]["local_choice"]
    ours = evaluate([str(folder / "left")], "arc_easy", folder, 4, out=tmp_path / "out", settings=Settings())["results"]
    assert [theirs["acc,none"], theirs["acc_norm,none"]] == [one["value"] for one in ours]


def test_their_tasks_in_remask_eval(folder: Path, tmp_path: Path) -> None:
    found = evaluate(
        [str(folder / "left")],
        "arc_easy,lm_eval:local_choice",
        folder,
        limit=5,
        include_path=folder / "tasks",
        out=tmp_path,
        settings=Settings(),
    )["results"]
    ours, theirs = ([one for one in found if one["task"] == name] for name in ("arc_easy", "lm_eval:local_choice"))
    assert {one["metric"]: one["value"] for one in ours} == {one["metric"]: one["value"] for one in theirs}
    assert all(one["questions"] == 5 for one in found)
    with pytest.raises(RemaskError, match=r"unknown task of lm_eval 'local_choise'. Did you mean 'local_choice'"):
        evaluate(
            [str(folder / "left")], "lm_eval:local_choise", include_path=folder / "tasks", out=tmp_path / "o",
            settings=Settings(),
        )  # fmt: skip


def test_likelihoods_and_greedy(folder: Path) -> None:
    for name, estimator in (("masked", "chain"), ("left", "auto")):
        model = RemaskLM(str(folder / name), estimator=estimator)
        (written,) = model.generate_until([request("generate_until", "hello", {"max_gen_toks": 3})])
        pairs = [("hello", written), ("hello", " no"), ("", "alone")]
        found = model.loglikelihood([request("loglikelihood", *pair) for pair in pairs])
        for (context, text), (log_p, _) in zip(pairs, found, strict=True):
            expected = remask.score(model.plain, text=text, prompt=context, estimator=estimator)
            assert log_p == pytest.approx(-expected.nats, rel=1e-5)
        assert not found[1][1] and (found[0][1] or len(written.encode()) != 3)
        silent = RemaskLM(str(folder / name), estimator=estimator, is_greedy=False)
        assert [x for x, _ in silent.loglikelihood([request("loglikelihood", *pair) for pair in pairs])] == [
            x for x, _ in found
        ]


def test_rolling_scores_each_token_once(folder: Path) -> None:
    model = RemaskLM(str(folder / "left"))
    text = "".join(chr(97 + i % 26) for i in range(150))
    parts = windows(model.checkpoint, text)
    assert b"".join(bytes(part.target) for part in parts) == text.encode()
    assert [len(part.target) for part in parts] == [64, 63, 23] and [len(part.prompt) for part in parts] == [0, 1, 41]
    (whole, empty) = model.loglikelihood_rolling([request("loglikelihood_rolling", x) for x in (text, "")])
    expected = -sum(remask.score(model.plain, text=list(part.target), prompt=list(part.prompt)).nats for part in parts)
    assert whole == pytest.approx(expected, rel=1e-5) and empty == 0


def test_generation_stops_at_strings(folder: Path) -> None:
    for name in ("masked", "left"):
        model = RemaskLM(str(folder / name))
        plain = [request("generate_until", "hello", {"until": [], "max_gen_toks": 8})]
        (whole,) = model.generate_until(plain)
        assert whole and model.generate_until(plain) == [whole]
        stop = whole[2]
        asked = [request("generate_until", text, {"until": [stop], "max_gen_toks": 8}) for text in ("hello", "x" * 99)]
        short, other = model.generate_until(asked)
        assert short == whole[: whole.index(stop)] and stop not in other
        with pytest.raises(RemaskError, match="max_gen_toks is 65, and the context of the model 64"):
            model.generate_until([request("generate_until", "a", {"max_gen_toks": 65})])
    assert stop_strings("a") == ["a"] and stop_strings(None) == [] and cut("abcb", ["b", "c"]) == "a"


def test_wrong_arguments_are_named(folder: Path) -> None:
    with pytest.raises(RemaskError, match=r"unknown argument of the model 'drows'. Did you mean 'draws'"):
        RemaskLM(str(folder / "left"), drows=3)
    with pytest.raises(RemaskError, match="unknown protocol"):
        RemaskLM(str(folder / "left"), protocol="smd")


def test_chat(tmp_path: Path) -> None:
    """The text of a conversation becomes the ids that `remask sample --chat` reads."""
    import tokenizers

    from remask.data.chat import turns

    inner = tokenizers.Tokenizer.from_str(json.dumps(json.loads(Tokenizer.bytes()._inner.to_str())))
    inner.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer = Tokenizer(inner)
    history = [
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "why"},
    ]
    text = chat_text(tokenizer, history, True)
    assert text.startswith("<|im_start|>user\n2 + 2?<|im_end|>\n") and text.endswith("<|im_start|>assistant\n")
    assert WithChat(tokenizer, None).encode(text) == turns(
        tokenizer, [(turn["role"], turn["content"]) for turn in history]
    )
    assert chat_text(tokenizer, history[:2], False).endswith("assistant\n4")
    with pytest.raises(RemaskError, match="no chat template"):
        chat_text(Tokenizer.bytes(), history, True)
