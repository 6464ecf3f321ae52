"""GSM8K in `remask eval`: a model writes solutions, from which the answers are read.

writing.py   how the texts are written: `--writing.steps 64`
solving.py   solutions in one pass or two, of problems that are written together
asking.py    the file, and the solutions of all models, in one process or several
log.py       finished solutions, kept so that a command goes on where it stopped
results.py   accuracy with an interval for each prompt, and over them
"""
