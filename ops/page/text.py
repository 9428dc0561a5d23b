"""Texts from strangers as HTML: shown as what they are, and links only where it is plain to see where they lead."""

import re
from itertools import groupby
from typing import NamedTuple
from urllib.parse import urlsplit

from markupsafe import Markup, escape

from contact_references.model.values import normalize_url
from ops.console import make_visible

LONGEST = 600
"""Characters of a text that are shown at once; all of it is there on demand."""

_READ_IN_TWO_WAYS = frozenset("ßẞς")
"""In hosts: as other letters by the older rules for names, which Python has, as themselves by those of browsers."""
_LINKED = re.compile(r"(?:https?://|mailto:)", re.IGNORECASE)


class Link(NamedTuple):
    """A text that may be followed, in parts: the host that it leads to, and what is around it.

    `spelled` is that host in ASCII, where it is written in other letters: some of them look like others.
    """

    before: str
    host: str
    after: str
    spelled: str | None = None

    @property
    def address(self) -> str:
        """The whole of it."""
        return f"{self.before}{self.host}{self.after}"


def visible(text: str) -> Markup:
    r"""Return a text as HTML that nothing acts on: what would not be seen, or turn text around, is marked escapes.

    >>> visible("<b>\u202e")
    Markup('&lt;b&gt;<span class="escape">\\u202e</span>')
    """
    escaped = Markup('<span class="escape">{}</span>')
    return Markup("").join(
        escape(part) if is_seen else escaped.format(make_visible(part))
        for is_seen, run in groupby(text, str.isprintable)
        for part in ["".join(run)]
    )


def find_link(text: str) -> Link | None:
    r"""Return a text as a link if it is a valid http, https or mailto URL without anything that could deceive.

    A name or password before the host is such a thing, and what cannot be seen.

    >>> find_link("https://example.com/a?b=1")
    Link(before='https://', host='example.com', after='/a?b=1', spelled=None)
    >>> find_link("https://ex\u0430mple.com/").spelled
    'xn--exmple-4nf.com'
    >>> texts = ("javascript:alert(1)", "https://bank.example@example.com/", "https://example.com/\u202e", "data:,a")
    >>> [find_link(text) for text in texts]
    [None, None, None, None]
    """
    if not (text.isprintable() and _LINKED.match(text) and normalize_url(text).is_valid):
        return None
    scheme, _, rest = text.partition(":")
    if scheme.lower() == "mailto":
        return Link(text, "", "") if text.isascii() else None
    try:
        parts = urlsplit(text)
        host = parts.netloc.rpartition(":")[0] if parts.port is not None else parts.netloc.removesuffix(":")
        spelled = host.encode("idna").decode()
    except ValueError:  # no host that a browser and Python read alike
        return None
    if "@" in host or not _READ_IN_TWO_WAYS.isdisjoint(host):
        return None
    return Link(f"{scheme}://", host, rest[2 + len(host) :], None if host.isascii() else spelled)
