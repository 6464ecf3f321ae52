"""The parser made from signatures: text as it stands, sections, flags, recipes, and what is said about wrong use."""

import importlib
import json
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin

import pytest

from remask.cli import VERBS
from remask.errors import RemaskError, WrongUse
from remask.families import Family
from remask.families.interpolating import Interpolating
from remask.families.masked import Masked
from remask.options import holds_text, listed_fields
from remask.parser import Parser
from remask.signatures import options_of
from remask.training.distill import Distillation
from remask.training.recipe import Recipe
from remask.training.reinforcement.run import Reinforcement


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How fast."""

    lr: float = 1e-3
    """Peak of the rate."""
    warm_up: int | None = None
    betas: tuple[float, float] = (0.9, 0.95)
    tied: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What every plan holds."""

    out: Path
    """Where it goes."""
    family: Family = field(default_factory=Masked)
    """The family."""
    note: str | None = None
    """A note."""


@dataclass(frozen=True, kw_only=True)
class Plan(Basis):
    """A plan: the fields of `Basis`, and more."""

    length: int | None = 256
    """Tokens in a row; null for the context."""
    rate: Rate = Rate(lr=0.5)
    """The rate over time."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    names: list[str] = field(default_factory=list)
    budgets: list[float] = field(default_factory=list)
    watch: bool = False


@dataclass(frozen=True, kw_only=True)
class Noted(Plan):
    """A plan whose note stands first."""

    listed_first: ClassVar[tuple[str, ...]] = ("note", "length")

    loud: bool = False


def test_a_class_says_which_of_its_options_stand_first() -> None:
    """Also inherited ones; to Python the class is as it was, and so are those before it and behind it."""
    names = [field.name for field in fields(Plan)]
    assert [field.name for field in listed_fields(Plan)] == names
    assert [field.name for field in fields(Noted)] == [*names, "loud"]
    others = [name for name in names if name not in ("note", "length")]
    assert [field.name for field in listed_fields(Noted)] == ["note", "length", *others, "loud"]
    shown = [option.name.partition(".")[0] for option in options_of(Noted)]
    assert list(dict.fromkeys(shown)) == ["note", "length", *others, "loud"]
    for kind, first in ((Recipe, "data"), (Distillation, "model"), (Reinforcement, "model")):
        assert next(options_of(kind)).name == first and fields(kind)[0].name == "out"


def verb(run: str, plan: Plan, *, seed: int = 0, from_: str = "") -> tuple[str, Plan, int, str]:
    """Does it.

    Args:
        run: The run, 100% of it.
        seed: Of the draws.
        from_: Where it comes from.
    """
    return run, plan, seed, from_


@pytest.fixture
def parser() -> Parser:
    return Parser("verb", "Does it.", verb, ("run",))


def read(parser: Parser, text: str = "", *more: str) -> Plan:
    return parser.read(["r", "--out", "o", *text.split(), *more])["plan"]


def test_the_fields_of_a_dataclass_without_a_default_are_plain_options(parser: Parser) -> None:
    assert parser.read(["r", "--out", "o"]) == {"run": "r", "plan": Plan(out=Path("o"))}
    text = "--seed 3 --from here --length null --precision bf16 --note n --watch --names [a,b] --budgets [1e13,3]"
    given = parser.read(["r", "--out", "o", *text.split()])
    assert (given["seed"], given["from_"]) == (3, "here")
    wanted = {"length": None, "precision": "bf16", "note": "n", "watch": True, "names": ["a", "b"]}
    assert given["plan"] == Plan(out=Path("o"), **wanted, budgets=[1e13, 3.0])
    assert parser.call(["r", "--out", "o"]) == ("r", Plan(out=Path("o")), 0, "")


def test_a_dataclass_inside_is_a_section_and_keeps_the_default_of_what_is_not_given(parser: Parser) -> None:
    assert read(parser, "--rate.warm-up 5 --rate.betas [0.8,1]").rate == Rate(lr=0.5, warm_up=5, betas=(0.8, 1.0))
    assert read(parser, "--rate.warm_up null --rate.no-tied".replace("rate.no-", "no-rate.")).rate.tied is False
    assert read(parser, "--rate.tied").rate.tied is True and read(parser).rate.tied is None


def test_a_class_is_chosen_by_name_with_its_options(parser: Parser) -> None:
    assert read(parser, "--family Masked --family.objective count").family == Masked(objective="count")
    assert read(parser, "--family.objective count").family == Masked(objective="count")
    assert type(read(parser, "--family Autoregressive").family).__name__ == "Autoregressive"
    assert read(parser, "--family Interpolating").family == Interpolating(), "with its own defaults, not Masked's"
    chosen = read(parser, "--family Interpolating --family.eps 0.5").family
    assert chosen == Interpolating(eps=0.5) != Interpolating(eps=0.5, objective=Masked().objective)


@pytest.mark.parametrize(
    ("line", "pairs"),
    [
        ("--family.pairs", True),
        ("--family.pairs true", True),
        ("--family.pairs --seed 1", True),
        ("--family.pairs=false", False),
        ("--family.pairs --no-family.pairs", False),
        ("--no-family.pairs", False),
        ("--family.init_args.pairs true", True),
    ],
)
def test_flags_of_a_family_need_no_value(parser: Parser, line: str, pairs: bool) -> None:
    family = read(parser, f"--family.objective low_variance {line}").family
    assert family == Masked(objective="low_variance", pairs=pairs)


@pytest.mark.parametrize(
    "written",
    [
        "--family.objective count",
        "--family.init_args.objective count",
        "--family.init_args.objective=count",
        '--family {"class_path":"Masked","init_args":{"objective":"count"}}',
        "family: {class_path: Masked, init_args: {objective: count}}",
        "family.objective: count",
    ],
)
def test_options_of_a_class_in_every_spelling(parser: Parser, tmp_path: Path, written: str) -> None:
    if not written.startswith("--"):
        (tmp_path / "recipe.yaml").write_text(written + "\n")
        written = f"--config {tmp_path / 'recipe.yaml'}"
    assert read(parser, f"{written} --family.fixed-counts=false").family == Masked(objective="count")


def test_a_recipe_for_another_class_leaves_nothing_behind(parser: Parser, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("family: {class_path: Masked, init_args: {objective: low_variance, eps: 0.5}}\n")
    chosen = read(parser, f"--config {recipe} --family Interpolating --family.alpha_0 0.5").family
    assert chosen == Interpolating(alpha_0=0.5)


def test_a_recipe_names_no_other_recipe(parser: Parser, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("config: two.yaml\n")
    with pytest.raises(WrongUse, match="names another recipe"):
        read(parser, f"--config {tmp_path / 'one.yaml'}")


def test_a_recipe_is_overruled_by_options(parser: Parser, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "note: '#'\nlength: null\nwatch: true\nrate: {lr: 1.0e-2, warm_up: 3}\nbudgets: [1.0e+13]\nout: elsewhere\n"
        "family: {class_path: Masked, init_args: {objective: count}}\n"
    )
    given = parser.read(["r", "--config", str(recipe), "--out", "o", "--rate.lr", "7", "--no-watch"])
    assert given["plan"] == Plan(
        out=Path("o"),
        note="#",
        length=None,
        rate=Rate(lr=7.0, warm_up=3),
        budgets=[1e13],
        family=Masked(objective="count"),
    )
    assert parser.read(["r", "--config", str(recipe)])["plan"].out == Path("elsewhere")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("--famly Masked", "unknown option --famly. Did you mean --family? `remask verb --help` lists the options"),
        ("--rate.learning_rate 1", "unknown option --rate.learning_rate. `remask"),
        ("--rate.warmup 1", "unknown option --rate.warmup. Did you mean --rate.warm_up?"),
        ("--warm_up 1", "unknown option --warm_up. Did you mean --rate.warm_up?"),
        ("--no_watch", "unknown option --no_watch. Did you mean --no-watch?"),
        ("--family.objectiv count", "Did you mean --family.objective?"),
        ("--family Autoregressive --family.pairs", "--family.pairs is an option of another family than the one"),
        ("--family Maskd", "unknown family 'Maskd'. Did you mean 'Masked'? Known: Autoregressive"),
        ("--family this.Masked", "unknown family 'this.Masked'. Did you mean 'Masked'?"),
        ("--family.objective all", "family.objective is 'all'; it must be bound, low_variance or count"),
        ("--length many", "length is 'many'; it must be a whole number or null"),
        ("--length 1.5", "length is '1.5'; it must be a whole number or null"),
        ("--seed true", "seed is 'true'; it must be a whole number"),
        ("--rate.lr fast", "rate.lr is 'fast'; it must be a number"),
        ("--rate.betas [1]", "rate.betas is '[1]'; it must be [a number, a number]"),
        ("--budgets 1,3", "budgets is '1,3'; it must be a list [a, b, ...] each of which is a number"),
        ("--precision fp8", "precision is 'fp8'; it must be auto, bf16 or fp32"),
        ("--out=", "out is ''; it must be a path"),
        ("--note", "--note needs a value; one that begins with a dash is written --note=VALUE"),
        ("--watch=maybe", "--watch takes no value; its opposite is --no-watch"),
        ("--config nowhere.yaml", "nowhere.yaml', which does not exist"),
        ("--config=.", "config is '.', which is no recipe in YAML: [Errno 21] Is a directory"),
        ("--family=", "unknown family ''. Known: Autoregressive"),
        ("again", "'again' is one argument too many"),
    ],
)
def test_wrong_use(parser: Parser, text: str, says: str) -> None:
    with pytest.raises(WrongUse) as error:
        read(parser, text)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_what_is_missing(parser: Parser) -> None:
    with pytest.raises(WrongUse, match=r"RUN and --out must be given|--out and RUN must be given"):
        parser.read([])


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ("not: 1", "unknown option not. Did you mean --note?"),
        ("rate: {lrr: 1}", "unknown option rate.lrr. Did you mean --rate.lr?"),
        ("note: 3", "note is 3; it must be text or null; in YAML, text like this stands in quotes"),
        ("note: yes", "note is True; it must be text or null; in YAML"),
        ("length: [1]", "length is [1]; it must be a whole number or null"),
        ("family: this.Family", "unknown family 'this.Family'"),
        ("family: {class_path: this.Masked}", "unknown family 'this.Masked'"),
        ("a: [", "recipe.yaml', which is no recipe in YAML: while parsing"),
        ("", "recipe.yaml', which is no recipe in YAML: it must hold options as NAME: VALUE"),
        ("note: \x00", "which is no recipe in YAML"),
        ("note: \udcff", "which is no recipe in YAML: 'utf-8' codec can't decode byte 0xff"),
        ("nothing: &a [*a]", "config is nested too deeply, or refers to itself"),
        ("note: &a [*a]", "note is [[...]]; it must be text or null"),
        (f"names: {'[' * 9999}", "which is no recipe in YAML: maximum recursion depth"),
        ("rate: 3", "rate is 3; it holds options, such as rate.lr"),
        ("rate: null", "rate is None; it holds options, such as rate.lr"),
        ("rate: {lr: null}", "rate.lr is null; it must be a number"),
        ("seed: null", "seed is null; it must be a whole number"),
        ("watch: null", "watch is null; it must be true or false"),
        ("family: null", "family is null; it must be Autoregressive or "),
        ("family: 3", "unknown family '3'. Known: Autoregressive"),
    ],
)
def test_recipes_that_cannot_be(parser: Parser, tmp_path: Path, recipe: str, says: str) -> None:
    sys.modules.pop("this", None)
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe, errors="surrogateescape")
    with pytest.raises(WrongUse) as error:
        read(parser, f"--config {path}")
    assert says in str(error.value)
    assert "this" not in sys.modules, "a recipe imports no module"


def test_help_describes_every_option(parser: Parser, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parser.read(["--help"])
    help = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0
    for text in (
        "usage: remask verb RUN [options]",
        "The run, 100% of it.",
        "--out PATH Where it goes.",
        "--note TEXT A note.",
        "rate: The rate over time.",
        "Peak of the rate. (default: 0.5)",
        "--precision {auto,bf16,fp32}",
        "--watch, --no-watch",
        "--length N",
        "--from TEXT Where it comes from.",
    ):
        assert text in help


TEXTS = ["# a", "null", "~", "---", "[a]", "{a: 1}", "5", "1e3", "yes", "", "--x", "- a: b"]
MORE = [" ", "{", "true", "é\n", "'", '"', "!tag", "&x", "*x", "%", "@", "`", "?", "...", "0x1f", "2001-01-01", ".inf"]


@pytest.mark.parametrize("text", [*TEXTS, *MORE])
def test_text_is_taken_as_it_stands(parser: Parser, tmp_path: Path, text: str) -> None:
    assert read(parser, "", f"--note={text}").note == text
    (tmp_path / "recipe.yaml").write_text(json.dumps({"note": text}))
    assert read(parser, f"--config {tmp_path / 'recipe.yaml'}").note == text


@pytest.mark.parametrize("name", sorted(VERBS))
def test_every_option_of_every_verb_takes_text_as_it_stands(name: str, tmp_path: Path) -> None:
    """Paths as well, by the command line and by a recipe. What a verb declares is looped over: a new option is met."""
    module, function = VERBS[name].function.split(":")
    parser = Parser(name, "", getattr(importlib.import_module(module), function), VERBS[name].positional)
    places = VERBS[name].positional
    lists = {option for option in places if get_origin(parser.options[option].hint) is list}
    texts = [o.name for o in parser.options.values() if holds_text(o.hint) and o.name not in places]
    paths = [o.name for o in parser.options.values() if {Path} & {o.hint, *get_args(o.hint)} and o.name not in places]
    for text in TEXTS:
        wanted = {option: text for option in texts} | {option: Path(text or "x") for option in paths}
        given = [f"--{option.rstrip('_')}={value}" for option, value in wanted.items()]
        first = [text if not text.startswith("-") and text else "x"] * len(places)
        assert _flat(parser.parser.parse_args([*first, *given])).items() >= wanted.items()
        recipe: dict[str, Any] = {}
        for option, value in wanted.items():
            section, _, field = option.rpartition(".")
            (recipe.setdefault(section, {}) if section else recipe)[field] = str(value)
        (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
        read = parser.parser.parse_args([*first, "--config", str(tmp_path / "recipe.yaml")])
        assert _flat(read).items() >= wanted.items()
        assert [read[place][0] if place in lists else str(read[place]) for place in places] == first


def _flat(options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if isinstance(value, str | Path)}


def compare(sources: list[str], *, seed: int = 0) -> list[str]:
    """Compares.

    Args:
        sources: What is compared.
        seed: Of the draws.
    """
    return [*sources, str(seed)]


def test_a_list_by_its_place_takes_every_word() -> None:
    parser = Parser("compare", "Compares.", compare, ("sources",))
    assert parser.call(["a", "[b]", "--seed", "3"]) == ["a", "[b]", "3"]
    assert parser.call(["--seed", "3", "a"]) == ["a", "3"]
    with pytest.raises(WrongUse, match="SOURCES must be given"):
        parser.call(["--seed", "3"])


def test_a_failure_of_a_dataclass_is_no_wrong_use(parser: Parser) -> None:
    """Values of the right type that make no sense together are told by the dataclass."""
    with pytest.raises(RemaskError, match="eps") as error:
        read(parser, "--family Masked --family.eps -3")
    assert not isinstance(error.value, WrongUse)
