"""GSM8K: both forms of its files, the instances of a problem, and what is read as its answer."""

import json
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remask import cli
from remask.data.corpus import documents, stamp
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.tasks.base import tasks
from remask.tasks.gsm8k import asked, reading
from remask.tasks.gsm8k.problems import Problem, read_problems
from remask.tasks.gsm8k.reading import answer_of, equal, normal, right, value_of
from remask.tasks.gsm8k.wording import WORDINGS, document, instances

DATA = Path(__file__).parents[2] / "../shared/data"
PUBLISHED = [
    {"question": "Al has 4 cats; 2 run.  How many stay? ", "answer": "4 - 2 = <<4-2=2>>2 stay.\nSo 2.\n#### 2"},
    {
        "question": "How many é?",
        "answer": "A thousand, $<<10*100=1000>>1000,\nminus <<1000-1=999>>1 is 999.\n#### 1,999",
    },
]
IN_TEXT = (
    "Al has 4 cats; 2 run.  How many stay?||4 - 2 = 2 stay. So 2. #### 2\n\nHow many?||<<1+2=3>> <<3*1=3>> #### 3\n"
)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PUBLISHED), encoding="utf-8")
    return path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "train.txt"
    path.write_text(IN_TEXT, encoding="utf-8")
    return path


# Questions that are rewarded


def test_problems_are_asked_and_answers_rewarded(published: Path) -> None:
    task = asked(f"gsm8k:{published}")
    examples = list(islice(task.examples("train", seed=3), 40))
    problems = {one.question: one for one in read_problems(published)}
    documents = {document(problem, wording) for problem in problems.values() for wording in WORDINGS}
    assert {one.text for one in examples} == documents, "each problem under each prompt, as it is learnt"
    for one, two in zip(examples[::2], examples[1::2], strict=True):
        assert one.question != two.question, "all problems, before one is asked again"
    assert examples == list(islice(task.examples("train", seed=3), 40))
    for one in examples[:4]:
        assert one.question == problems[one.question.question]
        assert task.right(one.question, one.answer) and not task.right(one.question, f"{one.answer}1")
        assert not task.right(one.question, one.question.answer), "without ####"
    first = asked(f"gsm8k:{published},template=0,equations=true")
    (example,) = islice(first.examples("train"), 1)
    assert example.text == document(example.question, WORDINGS[0], equations=True)


@pytest.mark.parametrize(
    ("name", "says"),
    [("gsm8k:{folder}/none.jsonl", r"there is no file of GSM8K at '.*none.jsonl'"), ("gsm8k", "write gsm8k:FILE"),
     ("gsm8k:", "write gsm8k:FILE"), ("gsm8k:{folder}/bad.jsonl", r"bad.jsonl, line 2: a problem is \{"),
     ("gsm8k:{folder}/train.jsonl,passes=1", "passes is for rows"),
     ("gsm8k:{folder}/train.jsonl,template=5", "templates 0 to 2"),
     ("gsm8k:{folder}/train.jsonl,templates=1", "unknown option of GSM8K 'templates'")],
)  # fmt: skip
def test_what_cannot_be_asked_is_named(published: Path, name: str, says: str) -> None:
    published.with_name("bad.jsonl").write_text(json.dumps(PUBLISHED[0]) + "\n{}\n")
    with pytest.raises(RemaskError, match=says):
        asked(name.format(folder=published.parent))


def test_other_splits_are_other_files(published: Path) -> None:
    with pytest.raises(RemaskError, match=r"are all for training.*remask eval --tasks gsm8k"):
        next(asked(f"gsm8k:{published}").examples("test"))
    assert "WordProblems" not in tasks(), "which no name without a file asks"


# Files


def test_both_forms_are_the_same_problems(published: Path, text: Path) -> None:
    first, second = read_problems(published)
    assert first.question == "Al has 4 cats; 2 run.  How many stay?" and first.answer == "2"
    assert first.steps == "4 - 2 = 2 stay. So 2." and first.equations == "<<4-2=2>>"
    assert second.answer == "1,999" and second.equations == "<<10*100=1000>> <<1000-1=999>>"
    assert [problem.line for problem in (first, second)] == [1, 2]
    other, marks = read_problems(text)
    assert (other.question, other.steps, other.answer) == (first.question, first.steps, first.answer)
    assert marks.line == 3 and marks.steps == marks.equations == "<<1+2=3>> <<3*1=3>>", "where there is nothing else"
    assert read_problems(text, 1) == [other]
    assert other.equations == ""


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"question": "q"}\n', r"line 1: a problem is"),
        ("a.jsonl", '\n{"question": "q", "answer": "a"}\n', r"line 2: it has 0 times ####"),
        ("a.jsonl", '{"question": "q", "answer": "a #### 1 #### 2"}\n', r"line 1: it has 2 times ####"),
        ("a.jsonl", '{"question": "q", "answer": "a #### "}\n', r"line 1: the question or the answer is empty"),
        ("a.jsonl", "q||a #### 1\n", r"line 1: it is not JSON"),
        ("a.jsonl", "[1]\n", r"line 1: a problem is"),
        ("a.txt", "q|a #### 1\n", r"line 1: it has 0 times \|\|"),
        ("a.txt", "q||a||b #### 1\n", r"line 1: it has 2 times \|\|"),
        ("a.txt", "\n\n", r"holds no problems"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(RemaskError, match=message):
        read_problems(tmp_path / name)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"q \xff||a #### 1\n")
    with pytest.raises(RemaskError, match="line 1: it is not UTF-8"):
        read_problems(tmp_path / "a.txt")
    with pytest.raises(RemaskError, match="there is no file of GSM8K"):
        read_problems(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("ours", "theirs", "which"), [("train", "train_no_aug", "steps"), ("train", "valid", "steps"), ("test", "test", "")]
)
def test_the_published_files_are_the_same(ours: str, theirs: str, which: str) -> None:
    """Of all problems the two sources agree: text without the marks, and the marks of the test file."""
    path, other = DATA / f"gsm8k/{ours}.jsonl", DATA / f"gsm8k_icot/{theirs}.txt"
    if not path.is_file() or not other.is_file():
        pytest.skip(f"{path} and {other} are not there")
    official = {problem.question: problem for problem in read_problems(path)}
    icot = read_problems(other)
    assert len(icot) == {"train_no_aug": 6973, "valid": 500, "test": 1319}[theirs]
    for problem in icot:
        one = official[problem.question]
        assert problem.steps in (one.steps, one.equations) and problem.answer == one.answer
        assert which == "" or theirs == "valid" or problem.steps == one.steps
    assert all(right(f"#### {p.answer}", p.answer) for p in official.values())


# Instances


@pytest.mark.parametrize("wording", WORDINGS)
@pytest.mark.parametrize("equations", [False, True])
def test_the_instances_of_a_problem(published: Path, wording: object, equations: bool) -> None:
    """Prompt and completion of each pass together are the whole text, in words and in tokens, and give the answer."""
    tokenizer = Tokenizer.train([json.dumps(PUBLISHED)] * 3, 300)
    for problem in read_problems(published):
        whole = document(problem, wording, equations)  # type: ignore[arg-type]
        (one,) = instances(problem, wording, 1, equations)  # type: ignore[arg-type]
        first, second = instances(problem, wording, 2, equations)  # type: ignore[arg-type]
        assert "".join(one) == "".join(second) == whole and "".join(first) == second[0]
        assert first[0] == one[0] == wording.prompt(problem.question)  # type: ignore[attr-defined]
        for prompt, completion in (one, first, second):
            assert prompt == prompt.rstrip() and completion[0].isspace() and completion == completion.rstrip()
            assert tokenizer.encode(prompt) + tokenizer.encode(completion) == tokenizer.encode(prompt + completion)
        assert answer_of(whole) == problem.answer and right(second[1], problem.answer)


def test_smdms_wording() -> None:
    problem = Problem("Why?", "Since <<1+1=2>>2.", "2", 1, "")
    assert list(instances(problem, WORDINGS[0], 2)) == [
        ("Question: Why?", " Answer: Since 2."),
        ("Question: Why? Answer: Since 2.", " #### 2"),
    ]


def test_rows_for_fine_tuning(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.jsonl"
    cli.main(["rows", f"gsm8k:{published}", "--out", str(out)])
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    expected = [pair for p, w in zip(read_problems(published), WORDINGS) for pair in instances(p, w, 2)]
    assert [(row["prompt"], row["completion"]) for row in rows] == expected and all(len(row) == 2 for row in rows)
    assert "4 rows of 2 problems" in capsys.readouterr().out
    out = tmp_path / "one.jsonl"
    cli.main(["rows", f"gsm8k:{published},passes=1,template=1,equations=true", "--out", str(out)])
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert rows[0] == {
        "prompt": f"Question: {PUBLISHED[0]['question'].strip()}\nAnswer:",
        "completion": " <<4-2=2>>\n#### 2",
    }
    for source, message in (
        (f"gsm8k:{published},template=3", "template=3: GSM8K has templates 0 to 2"),
        (f"gsm8k:{published},passes=3", "passes is '3'; it must be 1 or 2"),
        (f"gsm8k:{published},pases=1", "unknown option of GSM8K 'pases'. Did you mean 'passes'?"),
        ("gsm8k:nowhere.jsonl", "there is no file of GSM8K at 'nowhere.jsonl'"),
    ):
        with pytest.raises(SystemExit):
            cli.main(["rows", source, "--out", str(tmp_path / "other.jsonl")])
        assert message in capsys.readouterr().err and not (tmp_path / "other.jsonl").exists()


def test_problems_without_marked_equations_are_left_out_and_counted(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rows.jsonl"
    cli.main(["rows", f"gsm8k:{text},equations=true,template=0", "--out", str(out)])
    assert [json.loads(line)["completion"] for line in out.read_text().splitlines()] == [
        " Answer: <<1+2=3>> <<3*1=3>>",
        " #### 3",
    ]
    said = capsys.readouterr().err
    assert "not read: problems without equations marked <<1+2=3>> (1)" in said and "train.txt, line 1" in said
    cli.main(["rows", f"gsm8k:{text}", "--out", str(tmp_path / "all.jsonl")])
    assert "not read" not in capsys.readouterr().err
    text.write_text("q|| #### 1\n" + IN_TEXT.splitlines()[0])
    cli.main(["rows", f"gsm8k:{text}", "--out", str(tmp_path / "some.jsonl")])
    assert "not read: problems without steps (1)" in capsys.readouterr().err
    with pytest.raises(RemaskError, match="has no equations marked <<1\\+2=3>>; leave equations out"):
        list(documents(f"gsm8k:{text},equations=true"))


def test_a_corpus_of_problems(published: Path, tmp_path: Path) -> None:
    source = f"gsm8k:{published},template=2,passes=1"  # the options of rows are taken too
    found = list(documents(source))
    assert [one.text for one in found] == [document(p, WORDINGS[2]) for p in read_problems(published)]
    assert found[1].name == "train.jsonl#2"
    before = stamp(source)
    published.write_text(published.read_text() + published.read_text())
    assert stamp(source) != before, "another file is another corpus"
    with pytest.raises(RemaskError, match="no corpus at"):
        stamp("gsm8k:nowhere.jsonl")


# Answers


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer: 2 #### 18\n", "18"),
        ("a\n#### 5\nb", ""),
        ("####7", ""),
        ("#### 1 #### 2", "1 #### 2"),
        ("#### 3\n#### 4", "4"),
        ("no answer", ""),
        ("", ""),
    ],
)
def test_what_is_read_as_the_answer(text: str, answer: str) -> None:
    assert answer_of(text) == answer


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        ("1,000", "1000"),
        ("$18", "18"),
        ("18 dollars", "18"),
        ("x = 5", "5"),
        ("\\frac12", "\\frac{1}{2}"),
        (" 18\n", "18\n"),
        ("3.50", "3.50"),
        ("\\boxed{7}", "7"),
        ("The value is $\\frac{3}{4}$ exactly", "\\frac{3}{4}"),
        ("\\text{12} cm", "12"),
        ("\\sqrt2", "\\sqrt{2}"),
        ("1,000.5", "1,000.5"),
    ],
)
def test_the_normal_form(answer: str, form: str) -> None:
    assert normal(answer) == form


def test_equal_answers() -> None:
    assert equal("3.50", "3.5") and equal("18\n", "18") and equal("\\frac{1}{2}", "0.5") and equal("-0", "0")
    assert not equal("3.5", "3.6") and not equal("", "0") and not equal("1 #### 2", "2") and not equal("5", "-5")
    assert equal("x+1", "x+1") and not equal("x+1", "1+x"), "formulas are compared as texts"
    assert value_of("\\frac{1}{0}") is None and value_of("9" * 5000) is None


@given(st.integers(0, 10**12), st.integers(0, 3))
def test_a_number_is_read_however_it_is_written(number: int, zeros: int) -> None:
    for shown in (f"{number}", f"{number:,}", f"${number:,}", f"{number} dollars", f"x = {number}"):
        assert right(f"steps #### {shown}", f"{number:,}"), shown
    assert right(f"#### {number}{'.' + '0' * zeros if zeros else ''}", str(number))
    assert not right(f"#### {number + 1}", str(number)) and not right(f"{number}", str(number))


def test_the_second_reading() -> None:
    pytest.importorskip("math_verify")
    judge = reading.right_by_math_verify
    assert (
        judge("So she has 18 eggs.", "18") and judge("The answer is $1,234.", "1,234") and judge("#### 0.5", "\\frac12")
    )
    assert not judge("So she has 17 eggs.", "18") and not judge("", "18")
    assert not right("So she has 18 eggs.", "18"), "which the first one does not read"
