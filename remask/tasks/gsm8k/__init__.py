"""GSM8K (Cobbe et al. 2021): word problems of grade-school mathematics, whose answer is a number behind ####.

problems.py    the problems of a file, in the published form or that of implicit chain of thought
wording.py     three prompts, and a problem as documents or as rows of prompt and completion
corpus.py      `gsm8k:FILE,...` for `remask prepare`, and for `remask rows`
questions.py   the problems of a file as questions for `remask reinforce`
reading.py     the answer that a text gives, and whether it is right
"""

from remask.tasks.gsm8k.corpus import PREFIX, rows
from remask.tasks.gsm8k.questions import asked, is_named

__all__ = ["PREFIX", "asked", "is_named", "rows"]
