"""remask as a model of lm-evaluation-harness (`lm_eval`), which is an optional package: pip install 'remask[eval]'.

    python -m remask.harness --model remask --model_args path=runs/x --tasks arc_easy,lambada_openai

is `lm_eval` with all its options and with the model `remask`. The command `lm_eval` itself finds no models of other
packages (0.4.13), so it does not know this one.
"""
