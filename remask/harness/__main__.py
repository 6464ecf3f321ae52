"""`python -m remask.harness ...`: the command line of lm-evaluation-harness, with the model `remask`."""

import sys

from remask.errors import RemaskError


def main() -> None:
    """Runs `lm_eval` with the arguments of this command."""
    try:
        from lm_eval.__main__ import cli_evaluate

        import remask.harness.model  # noqa: F401  (registers the model)
    except ModuleNotFoundError as error:
        sys.exit(f"remask: {error}")
    try:
        cli_evaluate()
    except RemaskError as error:
        sys.exit(f"remask: {error}")


if __name__ == "__main__":
    main()
