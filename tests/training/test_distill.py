"""Discrete consistency distillation: rounds, paths and teachers, on a real tiny model."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tables import rng, tiny
from torch import Tensor, nn

import remask
from remask.batch import Batch
from remask.cli import main
from remask.data.tokens import prepare
from remask.errors import Interrupted, RemaskError
from remask.families.latent import gamma_of
from remask.families.uniform import Uniform
from remask.model.transformer import Transformer
from remask.training.distill import Consistency, Distillation, Rounds, distill, divergence, set_up_distillation
from remask.training.optim import Budget, Optimizer
from remask.training.run import carry_out
from remask.training.states import list_states
from remask.vocabulary import Vocabulary

K = 9
EPS = 0.004
FAMILY = Uniform(eps=EPS).over(Vocabulary(size=K))


@pytest.fixture(scope="module")
def teacher(fit: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("distil") / "uniform"
    fit(out, steps=60, family=Uniform(curriculum=0.3), optimizer=Optimizer(lr=5e-3))
    return out


def network(seed: int = 0) -> Transformer:
    return tiny(K, K, seed=seed, sharpness=2.0, time=True)


def batch(rows: int = 400, progress: float = 0.0) -> Batch:
    x = torch.randint(0, K, (rows, 4), generator=rng(1))
    scored = torch.ones_like(x, dtype=torch.bool)
    scored[:, 0] = False
    return Batch(x, scored, progress=progress)


class Heard(nn.Module):
    """A network whose readings are kept."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model
        self.heard: list[tuple[Tensor, Tensor]] = []

    def forward(self, tokens: Tensor, *, time: Tensor, **reading: Any) -> Tensor:
        self.heard.append((tokens.clone(), time.clone()))
        return self.model(tokens, time=time, **reading)


def test_the_divergence() -> None:
    one, two = torch.randn(5, K, generator=rng(0)), torch.randn(5, K, generator=rng(1))
    p, q = one.softmax(-1), two.softmax(-1)
    torch.testing.assert_close(divergence(one, two), (p * (p / q).log()).sum(-1))
    assert float(divergence(one, one + 3).abs().max()) < 1e-6


def test_student_and_teacher_stand_on_one_path() -> None:
    """The teacher's text has less noise, and noise that it shares with the student's."""
    objective = Consistency(Rounds(rounds=3, first=1 / 16), network(), FAMILY, False)
    objective.teacher.load_state_dict(network().state_dict())
    student, master = Heard(network(1)), Heard(objective.teacher)
    rows = batch()
    rows = replace(rows, progress=0.4)  # in the second of three rounds, where the step has doubled
    objective.known = 1
    latent_rng = rng(5)
    objective.teacher = master
    found = objective(student, rows, latent_rng)
    (z_t, t), (z_s, s) = student.heard[0], master.heard[0]
    assert bool((s < t).all())
    some = t.argsort()[[*range(0, len(t), 19), -1]]  # with the first and the last
    gammas = [torch.tensor([gamma_of(float(1 - (1 - EPS) * x), K) for x in time[some].double()]) for time in (s, t)]
    along = [(gamma - objective.low) / (objective.high - objective.low) for gamma in gammas]
    torch.testing.assert_close(along[1] - along[0], torch.full((len(some),), 1 / 8), rtol=0, atol=2e-4)
    assert -1e-3 < float(along[0].min()) < 0.02 and float(along[1].max()) == pytest.approx(1.0, abs=1e-3)
    clean_t, clean_s = z_t == rows.tokens, z_s == rows.tokens
    assert bool(clean_s[clean_t].all()), "what is clean at t is clean at s"
    assert bool((z_s == z_t)[~clean_s].all()), "what is noise at s is the same noise at t"
    assert bool((clean_s & ~clean_t).any()) and torch.equal(z_t[:, 0], rows.tokens[:, 0])
    again = divergence(student.model(z_t, time=t)[rows.scored], master.model(z_s, time=s)[rows.scored]).mean()
    torch.testing.assert_close(found.per_token(), again)


def test_rounds_renew_the_teacher_and_double_the_step() -> None:
    student = network(1)
    objective = Consistency(Rounds(rounds=4, first=1 / 32), network(0), FAMILY, False)
    steps, teachers = [], []
    for i in range(8):
        objective(student, batch(4, progress=i / 8), rng(i))
        steps.append(int(objective.round))
        teachers.append(objective.teacher.lm_head.weight.clone())
        with torch.no_grad():
            student.lm_head.weight += 1.0
    assert steps == [0, 0, 1, 1, 2, 2, 3, 3]
    first = network(1).lm_head.weight
    for i, weight in enumerate(teachers):
        torch.testing.assert_close(weight, first + 2 * (i // 2))
    assert not any(p.requires_grad for p in objective.teacher.parameters())


def test_a_model_is_distilled_by_the_command(teacher: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "student"
    options = ["--data", str(corpus), "--out", str(out), "--budget.steps", "12", "--batch", "4", "--precision", "fp32"]
    options += ["--compile", "off", "--distillation.rounds", "3", "--validation_rows", "4", "--optimizer.lr", "1e-3"]
    main(["distill", str(teacher), *options])
    m = remask.load(out)
    assert isinstance(m.family, Uniform) and m.about["step"] == 12 and m.about["validation"]["kind"] == "bound"
    before, after = (load_file(x / "latest" / "model.safetensors") for x in (teacher, out))
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert remask.sample(m, prompt="ab", length=6, steps=2).evaluations == 2
    main(["distill", str(teacher), *options])  # complete: nothing happens
    recipe = ["--config", str(out / "config.yaml"), "--data", str(corpus), "--out", str(tmp_path / "again")]
    main(["distill", str(teacher), *recipe])
    again = load_file(tmp_path / "again" / "latest" / "model.safetensors")
    assert all(torch.equal(after[name], again[name]) for name in after), "config.yaml is the recipe"


def test_a_folder_with_the_name_of_a_size(
    teacher: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").symlink_to(teacher)
    options: dict[str, Any] = {"budget": Budget(steps=1), "batch": 2, "compile": "off", "validation_rows": 0}
    distill(
        Distillation(
            model="tiny", data=corpus, out=tmp_path / "out", optimizer=Optimizer(kind="adamw", lr=1e-9), **options
        )
    )
    before, after = (load_file(x / "latest" / "model.safetensors") for x in (teacher, tmp_path / "out"))
    for name in before:
        torch.testing.assert_close(before[name], after[name], rtol=0, atol=1e-6)


class Stopping(Consistency):
    """With a Ctrl-C in the step whose `done` is 7/12."""

    stop = True

    def forward(self, student: Transformer, batch: Batch, rng: torch.Generator) -> Tensor:
        if Stopping.stop and round(batch.progress * 12) == 7:
            Stopping.stop = False
            signal.raise_signal(signal.SIGINT)
        return super().forward(student, batch, rng)


def test_a_stopped_distillation_resumes_bit_for_bit(teacher: Path, corpus: Path, tmp_path: Path, fit: Any) -> None:
    def go(out: Path) -> Path:
        recipe = Distillation(
            data=corpus, out=out, model=str(teacher), distillation=Rounds(rounds=3), budget=Budget(steps=12),
            optimizer=Optimizer(lr=1e-3), batch=4, ema=0.9, precision="fp32", compile="off", validation_rows=0,
            save_every=5, log_every=1, accelerator="cpu",
        )  # fmt: skip
        return carry_out(set_up_distillation(recipe), lambda *given: Stopping(recipe.distillation, *given))

    with pytest.raises(Interrupted):
        go(tmp_path / "parts")
    parts, whole = go(tmp_path / "parts"), go(tmp_path / "whole")
    one, two = (load_file(folder / "model.safetensors") for folder in (parts, whole))
    assert all(torch.equal(one[name], two[name]) for name in one)
    state = [torch.load(list_states(tmp_path / x)[0], weights_only=True)["state_dict"] for x in ("parts", "whole")]
    torch.testing.assert_close(state[0], state[1], rtol=0, atol=0)
    assert int(state[0]["objective.round"]) == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [({"rounds": 0}, r"distillation\.rounds is 0"), ({"first": 0.0}, r"distillation\.first is 0"),
     ({"rounds": 6, "first": 0.1}, r"first is 0\.1, and after 6 rounds of doubling 3\.2"),
     ({"gamma": (1.0, 0.0)}, "gamma is 1 to 0; it must rise"),
     ({"gamma": (-4.0, 20.0)}, "gamma goes to 20, where fewer than eps")],
)  # fmt: skip
def test_rounds_are_checked(options: dict, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        Consistency(Rounds(**options), network(), FAMILY, False)


def test_what_cannot_be_distilled(teacher: Path, masked_run: Path, corpus: Path, tmp_path: Path) -> None:

    def refused(says: str, model: Path = teacher, data: Path = corpus, **more: Any) -> None:
        with pytest.raises(RemaskError, match=says):
            recipe = {"data": data, "out": tmp_path / "out", "model": str(model), "budget": Budget(steps=2)}
            distill(Distillation(**recipe | more))

    refused("Masked models have no path of Gaussian noise for distillation", masked_run)
    refused(r"budget\.minutes is for pre-training", budget=Budget(minutes=1))
    refused("nothing", tmp_path / "nothing")
    other = prepare("synthetic:symbols=8,states=4,length=64,documents=400,seed=0", tmp_path / "data", vocab_size=270)
    refused("prepared with another tokenizer", data=other.folder)
    refused(r"length is 65, beyond the context of .* of 64 tokens: give --length 64 or less", length=65)
    assert not (tmp_path / "out" / "run.json").exists()
