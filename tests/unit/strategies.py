"""References as contacts may have them: every type, odd names, unicode, lone surrogates, values of any kind.

And JSON that is not what it should be.
"""

import copy
from typing import Any

from hypothesis import strategies as st

from contact_references.model.reference import ENTERED_TYPES, PRODUCED_TYPES

# Surrogates too: JSON can carry lone ones.
texts = st.text(st.characters(codec=None, min_codepoint=1), max_size=40)
names = st.sampled_from(["", "CRM", "crm", "a#b", "é", "😀", "\ud83d", "x" * 4096]) | texts
values = (
    st.sampled_from(
        [
            "",
            "HTTPS://User:pw@Example.COM:443/p?b=2&X-Amz-Signature=00#f",
            "s3://bucket/key",
            "12.50",
            "1e125",
            "9" * 39,
            "1_000",
            "2026-03-01",
            "20260301",
            "1772323200",
            "Jane@Example.com",
            "\udc00 lone",
            "ä" * 4096,
        ]
    )
    | texts
)


def members() -> st.SearchStrategy[dict[str, Any]]:
    """A member of the tagged union, with any of its optional fields."""
    entered = st.tuples(
        st.sampled_from(sorted(ENTERED_TYPES)), st.fixed_dictionaries({}, optional={"Name": names, "Value": values})
    )
    arns = st.sampled_from([f"arn:aws:connect:us-east-1:111122223333:file/{number}" for number in range(3)])
    produced = st.tuples(
        st.sampled_from(sorted(PRODUCED_TYPES)),
        st.fixed_dictionaries(
            {},
            optional={
                "Name": names,
                "Value": values,
                "Arn": arns,
                "Status": st.sampled_from(["PROCESSING", "APPROVED", "FAILED"]),
                "IsRedacted": st.booleans(),
                "AnalyticsMode": st.just("PostContact"),
            },
        ),
    )
    unknown = st.tuples(st.just("Mood"), st.fixed_dictionaries({"Name": names, "Score": st.integers()}))
    return st.one_of(entered, produced, unknown).map(lambda pair: {pair[0]: pair[1]})


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", " ", "\x00", "é", "9" * 5000])
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
"""Any JSON value."""


@st.composite
def mutated(draw: st.DrawFn, originals: st.SearchStrategy[Any]) -> Any:
    """Draw a JSON value with some of its parts left out, replaced, renamed or added."""
    value = copy.deepcopy(draw(originals))
    for _ in range(draw(st.integers(1, 4))):
        place = value
        while isinstance(place, dict) and (inner := [name for name in place if isinstance(place[name], dict)]):
            if draw(st.booleans()):
                break
            place = place[draw(st.sampled_from(inner))]
        if not isinstance(place, dict) or not place:
            return draw(junk)
        name = draw(st.sampled_from(sorted(place)))
        match draw(st.sampled_from(["drop", "replace", "upper", "title", "add"])):
            case "drop":
                del place[name]
            case "replace":
                place[name] = draw(junk)
            case "add":
                place[draw(texts)] = draw(junk)
            case way:
                place[name.upper() if way == "upper" else name[:1].upper() + name[1:]] = place.pop(name)
    return value
