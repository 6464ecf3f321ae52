"""The Pareto front: the measurements that no other beats in both speed and quality."""

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each point of two numbers, of which more is better, whether no other is at least as good in both and better
    in one."""
    return [not any(x[0] >= own[0] and x[1] >= own[1] and x != own for x in points) for own in points]
