"""Zero-shot benchmarks with the prompts and metrics of lm-evaluation-harness, from local files.

    for number, question in questions_of(benchmark("arc_easy"), Path("zeroshot/arc_easy.jsonl")): ...

One class for each benchmark; a new one is a new class in a file of this folder. No data come with the package.
"""

from remask.extensions import import_files
from remask.tasks.zeroshot.base import GROUPS, Benchmark, Question, benchmark, benchmarks, named
from remask.tasks.zeroshot.files import file_of, questions_of

import_files(__name__)

__all__ = ["GROUPS", "Benchmark", "Question", "benchmark", "benchmarks", "file_of", "named", "questions_of"]
