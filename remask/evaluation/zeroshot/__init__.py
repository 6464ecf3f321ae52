"""Zero-shot benchmarks of one or several models: `remask eval`.

answers.py    -log p of the answers to questions, and whether greedy decoding writes them
protocol.py   settings of the scores, and published ones by name
asking.py     questions asked of models, in one process or several
log.py        finished questions, kept so that a command goes on where it stopped
metrics.py    accuracy and perplexity, with their errors
templates.py  the same questions under several prompt templates
sweep.py      the weight of guidance, chosen on validation questions
report.py     table, results.json, results.md and results.png
command.py    the command
"""
