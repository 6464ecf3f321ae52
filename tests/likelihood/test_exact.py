"""Families whose bound is -log p itself."""

import math

import pytest
from tables import CausalTable, random_joint

from likelihood.cases import MODEL, TEXT, TEXTS, V, scores
from remask.families.autoregressive import Autoregressive
from remask.likelihood import Request
from remask.vocabulary import Vocabulary


def test_conditional_is_joint_minus_marginal() -> None:
    joint = random_joint(3, 4, seed=5)
    table = CausalTable(joint, end=3)
    family = Autoregressive().over(table.vocabulary)
    requests = [Request(TEXT), Request(TEXT[:2]), Request(TEXT[2:], TEXT[:2])]
    whole, marginal, conditional = (e.nats for e in scores(table, family, requests))
    assert conditional == pytest.approx(whole - marginal, rel=1e-6)
    assert whole == pytest.approx(-math.log(float(joint[TEXT])), rel=1e-6)


def test_conditional_of_a_causal_network_is_joint_minus_marginal() -> None:
    family = Autoregressive().over(Vocabulary(size=V + 1, end=9))
    for text in TEXTS:
        parts = [Request((*text.prompt, *text.target)), text, *([Request(text.prompt)] if text.prompt else [])]
        whole, conditional, *marginal = (e.nats for e in scores(MODEL, family, parts))
        assert conditional == pytest.approx(whole - sum(marginal), rel=1e-5)


def test_a_causal_batch_changes_nothing() -> None:
    family = Autoregressive().over(Vocabulary(size=V + 1, end=9))
    many = scores(MODEL, family, TEXTS)
    for text, found in zip(TEXTS, many, strict=True):
        (alone,) = scores(MODEL, family, [text])
        assert found.nats == pytest.approx(alone.nats, rel=1e-5)
        assert (found.kind, found.stderr) == ("exact", 0.0)
