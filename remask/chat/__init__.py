"""A conversation with a model in the terminal: `remask chat`.

dialogue.py   what was said, what of it the model reads, and the answer step by step
settings.py   one option of writing, changed while talking
display.py    an answer while it is denoised, and plain lines where there is no terminal
session.py    the loop: messages, and the commands that begin with a slash
command.py    the verb
"""
