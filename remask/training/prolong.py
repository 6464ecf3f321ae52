"""A run with another budget than it had: it goes on from a state that both budgets share, or says why it cannot.

Until its decay begins, the learning rate of a wsd run does not depend on how long the run will be. So the state kept
from before the decay is, to the bit, one that a longer run with the same warm-up would have come to as well.
"""

from dataclasses import replace
from pathlib import Path

from remask.errors import RemaskError
from remask.terminal import say
from remask.training.plan import Plan, count_steps, time_step
from remask.training.start import Setup
from remask.training.states import check_state, copy_state, list_states, state_path, step_of


def prolong(setup: Setup, plan: Plan) -> Plan:
    """The plan of the run that the run directory holds, which had `plan`, for the budget of `setup`.

    The training states that only the former budget leads to are removed. RemaskError, with nothing touched, where
    the two budgets share no state that is kept.
    """
    out = setup.recipe.out
    steps = count_steps(setup, lambda: time_step(setup, plan.bf16), lambda _: plan.compile)
    if steps == plan.steps:
        return plan
    done = max((step_of(path) for path in list_states(out)), default=0)
    there = f"{out} holds a run of {plan.steps:,} steps, of which {done:,} are done"
    if steps < done:
        raise RemaskError(f"{there}; the budget is now less than that, {steps:,} steps. Choose another --out")
    if done:
        reason = why_not(setup)
        if reason:
            raise RemaskError(f"{there}; it cannot become one of {steps:,} steps: {reason}. Choose another --out")
        go_back(out, shared_steps(setup, plan, steps), there)
    own = setup.recipe.optimizer.warmup_steps(steps)
    if done and own != plan.warmup:
        say(f"the warm-up of {plan.warmup:,} steps stays as it was; a run of {steps:,} steps has {own:,} by default")
    return replace(plan, steps=steps, warmup=plan.warmup if done else own)


def why_not(setup: Setup) -> str | None:
    """Why runs of this recipe at different budgets share no steps; None where they do."""
    recipe = setup.recipe
    if recipe.optimizer.schedule != "wsd":
        return (
            f"its learning rate follows a {recipe.optimizer.schedule} over the whole run, from the first step on. "
            "A run with --optimizer.schedule wsd can be given more later"
        )
    matters = setup.family.has_curriculum if recipe.progress_matters is None else recipe.progress_matters
    if matters:
        return (
            "its loss changes with the share of the training that is done. A masked or "
            "interpolating run with --family.ceiling 1, whose mask rates do not, can be given more later"
        )
    return None


def shared_steps(setup: Setup, plan: Plan, steps: int) -> int:
    """How many steps the planned run and one of `steps` have in common."""
    return min(setup.recipe.optimizer.stable(plan.steps), setup.recipe.optimizer.stable(steps))


def go_back(out: Path, shared: int, there: str) -> None:
    """Makes the newest whole state of at most `shared` steps the newest of all. RemaskError where none is kept."""
    kept = [*list_states(out), *(out / "checkpoints").glob("stable-*.ckpt")]
    for path in sorted((path for path in kept if step_of(path) <= shared), key=step_of, reverse=True):
        try:
            check_state(path)
        except Exception as error:  # whatever a damaged file makes the reader raise
            say(f"{path} is damaged ({error}); trying the one before")
            continue
        step = step_of(path)
        if path != state_path(out, step):
            copy_state(path, state_path(out, step))
        for later in list_states(out):
            if step_of(later) > step:
                later.unlink()
        return
    raise RemaskError(
        f"{there}; no state from before its decay, step {shared:,} or earlier, was kept. Choose another --out"
    )
