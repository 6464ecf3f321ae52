"""Which tokens may stand where, for a text to match a regular expression: the expression as an automaton over tokens.

`outlines-core` makes a deterministic automaton over bytes of the expression. Its product with the vocabulary, whose
tokens are walked as a tree of their bytes, is an automaton over tokens: from which state a token leads to which. Only
states that a text can reach, and from which the expression can still be matched, are kept.
"""

import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from remask.errors import RemaskError, first_line

States = NDArray[np.bool_]
"""(S + 1,) bool, a set of states; the last state is that of a text which an end-of-text token has ended."""
LAST = "\U0010ffff"
"""A character that is in no text: behind the expression it shows where a text may end. So all alternatives are
followed, also those that a search from the left would give up for a preferred one."""
MOST = 2**26
"""Most transitions of an automaton."""


class Automaton:
    """An expression over the tokens of a vocabulary."""

    def __init__(self, expression: str, start: int, accepting: States, edges: NDArray[np.int64], size: int) -> None:
        """Of (3, E) edges: from which state, by which token, to which state. `size` is the number of tokens, V."""
        self.expression, self.size = expression, size
        self.start = np.zeros(len(accepting), bool)
        self.start[start] = True
        self.accepting = accepting
        """States in which the text so far matches; the last one is among them."""
        self.source, self.token, self.target = edges[:, np.argsort(edges[1], kind="stable")]
        self.first = np.searchsorted(self.token, np.arange(size + 1))
        """(V + 1,) where the edges of each token begin."""
        states = len(accepting)
        pairs = np.unique(self.target * states + self.source)
        shape, ones = (states, states), np.ones(len(pairs), np.int32)
        self.forward = csr_array((ones, (pairs // states, pairs % states)), shape)
        self.backward = csr_array((ones, (pairs % states, pairs // states)), shape)
        self.tokens_between = lru_cache(maxsize=256)(self._tokens_between)

    def after(self, states: States, token: int | None) -> States:
        """The states after a token of text; after any one of them where it is None."""
        if token is None:
            return self.forward @ states > 0
        edges = self._edges(token)
        found = np.zeros_like(states)
        found[self.target[edges][states[self.source[edges]]]] = True
        return found

    def before(self, states: States, token: int | None) -> States:
        """The states from which a token of text leads to one of these; any token where it is None."""
        if token is None:
            return self.backward @ states > 0
        edges = self._edges(token)
        found = np.zeros_like(states)
        found[self.source[edges][states[self.target[edges]]]] = True
        return found

    def after_end(self, states: States) -> States:
        """The states after an end-of-text token, which a text may have that matches or has ended."""
        found = np.zeros_like(states)
        found[-1] = (states & self.accepting).any()
        return found

    def before_end(self, states: States) -> States:
        """The states from which an end-of-text token leads to one of these."""
        return self.accepting & states[-1]

    def between(self, before: States, after: States) -> States:
        """(V,) bool, the tokens of text that lead from one of some states to one of some others."""
        return self.tokens_between(before.tobytes(), after.tobytes())

    def _tokens_between(self, before: bytes, after: bytes) -> States:
        one, two = (np.frombuffer(x, bool) for x in (before, after))
        found = np.zeros(self.size, bool)
        found[self.token[one[self.source] & two[self.target]]] = True
        return found

    def lengths(self, most: int) -> list[int]:
        """The numbers of tokens, up to `most`, of which a text matches."""
        found, states = [], self.start
        for n in range(most + 1):
            if (states & self.accepting).any():
                found.append(n)
            states = self.after(states, None)
        return found

    def _edges(self, token: int) -> slice:
        return slice(self.first[token], self.first[token + 1]) if token < self.size else slice(0)


@lru_cache(maxsize=64)
def automaton(expression: str, texts: tuple[bytes, ...], first: tuple[bytes, ...] | None = None) -> Automaton:
    """The automaton of an expression over tokens, whose bytes are `texts`; tokens without bytes are in no text.

    `first` are the bytes that each adds as the first token of a text, where these differ: decoders as that of Llama 2
    leave out a space there.

    The expression is in the syntax of Rust's `regex`: that of Python's `re` without look-around and back-references. It
    is matched against the whole text. RemaskError where it is no such expression, or no text matches it.
    """
    start, accepting, table = byte_automaton(expression)
    edges = product(expression, table, texts, np.arange(len(table)))
    if first is not None:
        accepting, more = with_first(expression, start, accepting, table, texts, first)
        start, edges = len(table), np.concatenate([edges, more], axis=1)
    states = len(accepting)
    shape, ones = (states, states), np.ones(edges.shape[1], np.int32)
    reached = closure(csr_array((ones, (edges[2], edges[0])), shape), np.arange(states) == start)
    useful = reached & closure(csr_array((ones, (edges[0], edges[2])), shape), accepting)
    if not useful[start]:
        raise RemaskError(f"no text of the tokens of this model matches the expression {expression!r}")
    useful[-1] = True
    number = np.cumsum(useful) - 1
    edges = edges[:, useful[edges[0]] & useful[edges[2]]]
    edges = np.stack([number[edges[0]], edges[1], number[edges[2]]])
    return Automaton(expression, int(number[start]), accepting[useful], edges, len(texts))


def byte_automaton(expression: str) -> tuple[int, States, NDArray[np.int64]]:
    """Of an automaton over bytes: the start, (S + 1,) accepting states and the (S, 256) table; -1: no transition."""
    from outlines_core import Index, Vocabulary

    single = Vocabulary(256, {bytes([b]): [b] for b in range(256)})  # 256 stands for the end-of-text token
    try:
        Index(f"{expression}{LAST}", single)  # it is an expression by itself, without the parentheses
        index = Index(f"(?:{expression}){LAST}", single)
    except ValueError as error:
        hint = "it is matched as a whole, without ^, $, \\b, look-around and back-references"
        raise RemaskError(f"the expression {expression!r}: {reason(expression, error)}; {hint}") from None
    given = index.get_transitions()
    number = {state: i for i, state in enumerate(given)}
    table = np.full((len(number), 256), -1, np.int64)
    for state, moves in given.items():
        for byte, target in moves.items():
            if byte < 256:
                table[number[state], byte] = number[target]
    ends = np.arange(len(table))
    for byte in LAST.encode():
        ends = np.where(ends < 0, -1, table[ends, byte])
    final = np.zeros(len(table) + 1, bool)
    final[[number[state] for state in index.get_final_states()]] = True
    accepting = (ends >= 0) & final[ends]
    return number[index.get_initial_state()], np.append(accepting, True), table


def with_first(
    expression: str,
    start: int,
    accepting: States,
    table: NDArray[np.int64],
    texts: tuple[bytes, ...],
    first: tuple[bytes, ...],
) -> tuple[States, NDArray[np.int64]]:
    """A start that no token leads back to, behind the states of the table: (S + 2,) accepting states and (3, E) edges.

    The first token adds its bytes in `first`. A token that adds bytes elsewhere and none here, a space that is left
    out, leads to the start of the table.
    """
    edges = product(expression, table, first, np.array([start]))
    blank = np.array(
        [i for i, (here, text) in enumerate(zip(first, texts, strict=True)) if text and not here], np.int64
    )
    edges = np.concatenate([edges, [np.full_like(blank, start), blank, np.full_like(blank, start)]], axis=1)
    edges[0] = len(table)
    return np.insert(accepting, len(table), accepting[start]), edges


def reason(expression: str, error: Exception) -> str:
    """Why an expression cannot be used, in the words of Python's `re` where it refuses it too."""
    try:
        re.compile(expression)
    except re.error as own:
        return str(own)
    text = first_line(error)
    return "no text matches it" if "incompatible with the regex" in text else text.split(";")[0].rstrip(".")


def product(
    expression: str, table: NDArray[np.int64], texts: tuple[bytes, ...], source: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(3, E) edges: from each state of `source`, each token whose bytes lead to a state, and that state.

    All states walk the tree of the tokens' bytes at once, one byte of depth at a time.
    """
    tree = tree_of(texts)
    state, node, found, total = source, np.zeros(len(source), np.int64), [], 0
    while len(node):
        which, token = tree.tokens_at(node)
        found.append(np.stack([source[which], token, state[which]]))
        total += len(token)
        which, child = tree.children_of(node)
        if total + len(child) > MOST:
            raise RemaskError(f"the expression {expression!r} needs more than {MOST} transitions; give a simpler one")
        source, state = source[which], table[state[which], tree.byte[child]]
        alive = state >= 0
        source, state, node = source[alive], state[alive], child[alive]
    return np.concatenate(found, axis=1)


class Tree:
    """The bytes of all tokens as a tree: a node for each beginning of a token, ordered by depth."""

    def __init__(self, texts: tuple[bytes, ...]) -> None:
        beginnings = {text[:n] for text in texts for n in range(len(text) + 1)} | {b""}
        ordered = sorted(beginnings, key=lambda text: (len(text), text))
        number = {text: i for i, text in enumerate(ordered)}
        self.byte = np.array([0, *(text[-1] for text in ordered[1:])])
        """(N,) the last byte of each node."""
        parents = np.array([number[text[:-1]] for text in ordered[1:]], np.int64)
        self.first_child = 1 + np.searchsorted(parents, np.arange(len(ordered) + 1))
        """(N + 1,) the children of node i are the nodes from first_child[i] to first_child[i + 1]."""
        node = np.array([number[text] if text else len(ordered) for text in texts], np.int64)  # those without are last
        self.tokens = np.argsort(node, kind="stable")
        self.first_token = np.searchsorted(node[self.tokens], np.arange(len(ordered) + 1))

    def children_of(self, node: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which of some nodes has each child, and the children."""
        return spans(self.first_child, node)

    def tokens_at(self, node: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """At which of some nodes each token ends, and the tokens."""
        which, place = spans(self.first_token, node)
        return which, self.tokens[place]


@lru_cache(maxsize=8)
def tree_of(texts: tuple[bytes, ...]) -> Tree:
    """The tree of a vocabulary, which all of its expressions share."""
    return Tree(texts)


def spans(first: NDArray[np.int64], chosen: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers from first[i] to first[i + 1], for each chosen i, and to which of the chosen each belongs."""
    counts = first[chosen + 1] - first[chosen]
    which = np.repeat(np.arange(len(chosen)), counts)
    offset = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    return which, first[chosen][which] + offset


def closure(step: csr_array, states: States) -> States:
    """All states that are reached from some by any number of steps."""
    while True:
        more = states | (step @ states > 0)
        if (more == states).all():
            return more
        states = more
