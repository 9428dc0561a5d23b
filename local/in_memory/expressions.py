"""DynamoDB's conditions and updates, of the kinds that this project writes; others raise NotImplementedError."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

Item = dict[str, Any]
"""An item on the wire: `{name: {kind: value}}`."""

Values = Mapping[str, Any]


class Change(NamedTuple):
    """What an update does to an attribute: `set`, `default` (unless it is there), `remove` or `add`, with a value."""

    name: str
    how: str
    value: str = ""


_ACTIONS = {
    "SET": {"set": r"(\w+) = (:\w+)", "default": r"(\w+) = if_not_exists\(\1, (:\w+)\)"},
    "REMOVE": {"remove": r"(\w+)"},
    "ADD": {"add": r"(\w+) (:\w+)"},
}


@cache
def read_update(expression: str) -> tuple[Change, ...]:
    """Return an UpdateExpression's changes.

    >>> read_update("SET a = if_not_exists(a, :a) ADD n :one")
    (Change(name='a', how='default', value=':a'), Change(name='n', how='add', value=':one'))
    >>> read_update("SET a = b")
    Traceback (most recent call last):
    NotImplementedError: SET a = b
    """
    _, *clauses = re.split(r"\s*\b(SET|REMOVE|ADD)\s+", expression)
    changes = []
    for kind, actions in zip(clauses[::2], clauses[1::2], strict=True):
        for action in re.split(r",\s*(?![^(]*\))", actions):
            found = [(how, match) for how, form in _ACTIONS[kind].items() if (match := re.fullmatch(form, action))]
            if not found:
                raise NotImplementedError(expression)
            changes += [Change(match[1], how, *match.groups()[1:]) for how, match in found]
    return tuple(changes)


def apply_update(item: Item, changes: tuple[Change, ...], values: Values) -> Item:
    """Return an item as changes make it.

    >>> changes = read_update("SET a = :a, b = if_not_exists(b, :a) REMOVE c ADD n :one")
    >>> old = {"b": {"S": "old"}, "c": {"S": "gone"}, "n": {"N": "2"}}
    >>> apply_update(old, changes, {":a": {"S": "new"}, ":one": {"N": "1"}})
    {'b': {'S': 'old'}, 'n': {'N': '3'}, 'a': {'S': 'new'}}
    """
    changed = dict(item)
    for name, how, value in changes:
        if how == "remove":
            changed.pop(name, None)
        elif how == "add":
            changed[name] = {"N": str(int(item.get(name, {"N": "0"})["N"]) + int(values[value]["N"]))}
        elif how == "set" or name not in item:
            changed[name] = values[value]
    return changed


class Term(NamedTuple):
    """A comparison of an attribute with a value; `absent` asks that there is no item."""

    name: str
    comparison: str
    value: str = ""


@cache
def read_condition(expression: str) -> tuple[tuple[Term, ...], ...]:
    """Return a ConditionExpression as alternatives, of each of which every term must hold."""
    return tuple(
        tuple(_read_term(term, expression) for term in alternative.split(" AND "))
        for alternative in expression.split(" OR ")
    )


def _read_term(term: str, expression: str) -> Term:
    if term == "attribute_not_exists(pk)":
        return Term("pk", "absent")
    parts = re.fullmatch(r"(\w+) (=|<=) (:\w+)", term)
    if parts is None:
        raise NotImplementedError(expression)
    return Term(*parts.groups())


def holds(item: Item | None, expression: str, values: Values) -> bool:
    """Whether a condition holds of the item that is there, if any.

    >>> condition = "attribute_not_exists(pk) OR a = :a AND b <= :b"
    >>> values = {":a": {"S": "1"}, ":b": {"S": "2"}}
    >>> items = ({"a": {"S": "1"}, "b": {"S": "2"}}, {"a": {"S": "1"}, "b": {"S": "3"}}, {"a": {"S": "1"}}, None)
    >>> [holds(item, condition, values) for item in items]
    [True, False, False, True]
    """
    return any(
        all(_term_holds(item, term, values) for term in alternative) for alternative in read_condition(expression)
    )


def _term_holds(item: Item | None, term: Term, values: Values) -> bool:
    if item is None or term.comparison == "absent":
        return item is None and term.comparison == "absent"
    if term.name not in item or term.value not in values:
        return False
    mine, asked = item[term.name], values[term.value]
    return bool(mine == asked if term.comparison == "=" else mine["S"] <= asked["S"])


def used_values(changes: tuple[Change, ...], condition: str | None) -> Iterator[str]:
    """Yield the names of the values that an update and a condition use."""
    yield from (change.value for change in changes if change.value)
    for alternative in read_condition(condition) if condition else ():
        yield from (term.value for term in alternative if term.value)
