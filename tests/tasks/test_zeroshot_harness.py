"""The prompts are those of lm-evaluation-harness: its own tasks build requests from the same local rows."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from zero_shot_rows import DATA, OWN

from remask.tasks.zeroshot import benchmark, benchmarks, file_of, questions_of
from remask.tasks.zeroshot.rows import Row

lm_eval = pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed: pip install 'remask[eval]'")

CONFIGS = {
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "lambada_openai": "lambada/lambada_openai.yaml",
    "lambada_standard": "lambada/lambada_standard.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "piqa": "piqa/piqa.yaml",
    "race": "race/race.yaml",
    "social_iqa": "siqa/siqa.yaml",
    "winogrande": "winogrande/default.yaml",
}


def task_of(name: str, file: Path) -> Any:
    """The task of the harness by its own configuration, with the rows of a local file."""
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    path = Path(lm_eval.__file__).parent / "tasks" / CONFIGS[name]
    config = load_yaml(path, resolve_func=True, recursive=True)
    config |= {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": {"test": str(file)}}}
    config |= {"training_split": None, "validation_split": None, "test_split": "test"}
    return ConfigurableTask(config=config)


def asked_by_harness(name: str, rows: list[dict[str, Any]], folder: Path) -> list[list[tuple[str, str]]]:
    """(context, continuation) of each answer of each row."""
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = task_of(name, file)
    task.build_all_requests(rank=0, world_size=1)
    found: dict[int, list[tuple[str, str]]] = {}
    for one in sorted(task.instances, key=lambda one: (one.doc_id, one.idx)):
        found.setdefault(one.doc_id, []).append(one.args)
    return list(found.values())


def golds(name: str, rows: list[dict[str, Any]], folder: Path) -> list[Any]:
    task = task_of(name, folder / f"{name}.jsonl")
    right = task.doc_to_text if task.multiple_input else task.doc_to_target
    return [right(doc) for doc in task.test_docs()]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def test_every_benchmark_is_compared() -> None:
    assert set(CONFIGS) == set(benchmarks())


@pytest.mark.parametrize("name", sorted(OWN))
def test_prompts_from_the_fields_of_the_data_sets(name: str, tmp_path: Path) -> None:
    questions = [benchmark(name).question(Row(row, "row")) for row in OWN[name]]
    assert [list(q.pairs) for q in questions] == asked_by_harness(name, OWN[name], tmp_path)
    if not benchmark(name).greedy:
        assert [q.gold for q in questions] == golds(name, OWN[name], tmp_path)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_metrics_are_those_of_the_harness(name: str, tmp_path: Path) -> None:
    config = yaml.load((Path(lm_eval.__file__).parent / "tasks" / CONFIGS[name]).read_text(), yaml.BaseLoader)
    if "include" not in config:
        assert set(benchmark(name).metrics) == {one["metric"] for one in config["metric_list"]}


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - {"race"}))
def test_prompts_from_the_public_files(name: str, tmp_path: Path) -> None:
    """Rows of llm-foundry and OLMo, put back into the fields of the data sets, which the harness reads."""
    if not DATA.is_dir():
        pytest.skip("the files of the benchmarks are not beside the project")
    found, path = file_of(name, DATA)
    assert path is not None
    questions = [one for _, one in questions_of(found, path, 300)]
    lines = path.read_text(encoding="utf-8").splitlines()[:300]
    if path.suffix == ".txt":
        rows = [{"text": line} for line in lines]
    else:
        rows = [as_published(name, json.loads(line)) for line in lines]
    assert [list(q.pairs) for q in questions] == asked_by_harness(name, rows, tmp_path)
    if not found.greedy:
        assert [q.gold for q in questions] == golds(name, rows, tmp_path)


def as_published(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """The fields of the data set, from a row of llm-foundry or OLMo."""
    if name.startswith("lambada"):
        return {"text": f"{row['context']} {row['continuation']}"}
    if name == "social_iqa":
        return {key: row[key] for key in ("context", "question", "answerA", "answerB", "answerC", "label")}
    if name == "winogrande":
        (one, two), end = row["context_options"], row["continuation"]
        shared = next(i for i in range(min(len(one), len(two)) + 1) if one[i : i + 1] != two[i : i + 1])
        options = {"option1": one[shared:], "option2": two[shared:]}
        return {"sentence": f"{one[:shared]}_ {end}", **options, "answer": str(row["gold"] + 1)}
    choices, gold = row["choices"], row["gold"]
    if name == "hellaswag":  # cleaned already; cleaning it again changes nothing but outer spaces, which are put back
        label, _, text = row["query"].partition(": ")
        ends = [f"[x]{choice}" for choice in choices]
        return {"ctx_a": text, "ctx_b": "", "activity_label": label, "endings": ends, "label": str(gold)}
    query = row["query"]
    if name == "boolq":
        passage, _, asked = query.removeprefix("Passage: ").rpartition("\nQuestion: ")
        return {"passage": passage, "question": asked.removesuffix("?"), "label": gold}
    if name == "piqa":
        goal = query.removeprefix("Question: ").removesuffix("\n")
        return {"goal": goal, "sol1": choices[0], "sol2": choices[1], "label": gold}
    labelled = {"text": choices, "label": [str(i) for i in range(len(choices))]}
    key = "question_stem" if name == "openbookqa" else "question"
    return {key: query.removeprefix("Question: "), "choices": labelled, "answerKey": str(gold)}
