"""The rules by which a value of each type is read: what is valid, and the one spelling of what it means.

Every rule takes any text and gives a `Normalized`; none raises. A value that is not what its type says keeps
its own text as its canonical form, so that it can still be looked up. Blanks around a value mean nothing, but
in a STRING. Digits are ASCII digits.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from urllib.parse import unquote

from contact_references.model.timestamps import format_time, parse_iso

_BLANKS = " \t\r\n"


class Normalized(NamedTuple):
    """A value as its type reads it; `number_value` of a NUMBER and `date_value` of a DATE, if it is valid."""

    canonical_value: str
    is_valid: bool = True
    number_value: Decimal | None = None
    date_value: str | None = None


def normalize_text(value: str) -> Normalized:
    """Take a STRING as it is: every text is one.

    >>> normalize_text(" As it was. ")
    Normalized(canonical_value=' As it was. ', is_valid=True, number_value=None, date_value=None)
    """
    return Normalized(value)


# RFC 3986, appendix B; a scheme of one letter is a Windows drive.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)
_AUTHORITY = re.compile(r"(?:.*@)?(\[[0-9A-Fa-f:.]+\]|[^:]*)(?::(.*))?", re.DOTALL)
_NOT_IN_URLS = re.compile(r"[\x00-\x20\x7f<>\"`{}|\\^]")
_NOT_IN_HOSTS = re.compile(r"[\[\]@%:]")
_DEFAULT_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443", "ftp": "21"}
_WITHOUT_HOST = {"mailto", "tel", "sms", "sip", "sips"}


def normalize_url(value: str) -> Normalized:
    """Read a URL: `scheme://host…`, or one of the schemes that people reach people by, `mailto:` and `tel:`.

    In the canonical form scheme and host are in lower case, escapes in upper case, an empty path is `/`; the
    scheme's default port, userinfo and the query parameters of a signature are left out (RFC 3986, 6.2.2 and
    6.2.3). Path, query and fragment are otherwise as they were: servers may tell their spellings apart.

    >>> normalize_url("HTTPS://jane:secret@Example.COM:443/A%2fb?q=1&X-Amz-Signature=0a1b").canonical_value
    'https://example.com/A%2Fb?q=1'
    >>> normalize_url("mailto:jane@example.com").is_valid, normalize_url("www.example.com").is_valid
    (True, False)
    >>> normalize_url("https:/jane:secret@host/p").canonical_value
    'https:/host/p'
    """
    text = strip_signature(value.strip(_BLANKS))
    match = _URL.fullmatch(text)
    if match is None:
        return Normalized(_without_userinfo(text), is_valid=False)
    scheme, authority, path, query, fragment = match.groups()
    scheme = scheme.lower()
    rest = path + (f"?{query}" if query is not None else "") + (f"#{fragment}" if fragment is not None else "")
    rest = re.sub(r"%[0-9A-Fa-f]{2}", lambda escape: escape[0].upper(), rest)
    is_clean = _NOT_IN_URLS.search(text) is None
    if authority is None and scheme in _WITHOUT_HOST:
        rest = re.sub(r"^([^:@]*):[^@]*@", r"\1@", rest) if scheme in ("sip", "sips") else rest
        return Normalized(f"{scheme}:{rest}", is_valid=is_clean and path != "")
    if not authority:
        slashes = "" if authority is None else "//"
        return Normalized(_without_userinfo(f"{scheme}:{slashes}{rest}"), is_valid=False)
    host, port, is_authority = _read_authority(authority, scheme)
    if not path and host and scheme in _DEFAULT_PORTS:
        rest = f"/{rest}"
    if not is_authority and "@" in rest:  # a password with a slash in it, perhaps
        return Normalized(f"{scheme}://{rest.rpartition('@')[2]}", is_valid=False)
    return Normalized(f"{scheme}://{host}{port}{rest}", is_valid=is_clean and is_authority)


# Slashes, with a scheme before them or none, and all up to the last @ of the path.
_USERINFO = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.-]+:(?=[/\\]))?[/\\]*)([^?#]*@)", re.DOTALL)


def _without_userinfo(text: str) -> str:
    """Leave out what may be a name and a password, of a text that is no URL: rather too much than too little."""
    match = _USERINFO.match(text)
    if match is None or not (match[1] or ":" in match[2]):
        return text
    return match[1] + text[match.end() :]


def _read_authority(authority: str, scheme: str) -> tuple[str, str, bool]:
    """Return host and `:port` as a canonical form has them, and whether they are valid."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None:  # text behind an IPv6 address's bracket
        return authority.rpartition("@")[2].lower(), "", False
    host, port = match[1].lower(), match[2] or ""
    is_number = re.fullmatch(r"[0-9]{0,5}", port) is not None and int(port or 0) < 65536
    if is_number and port:
        port = str(int(port))
    is_host = host != "" and (host.startswith("[") or _NOT_IN_HOSTS.search(host) is None)
    return host, "" if port in ("", _DEFAULT_PORTS.get(scheme)) else f":{port}", is_number and is_host


_SIGNING = re.compile(r"x-(amz|goog)-.+", re.IGNORECASE)
_SIGNING_WITH = {
    # S3's and Cloud Storage's older query signatures, and CloudFront's
    "signature": {"signature", "expires", "policy", "key-pair-id", "awsaccesskeyid", "googleaccessid"},
    # Azure's shared access signatures
    "sig": {
        "sig",
        "se",
        "si",
        "sip",
        "skoid",
        "sks",
        "skt",
        "ske",
        "sktid",
        "skv",
        "sp",
        "spr",
        "sr",
        "st",
        "sv",
    },
}


def strip_signature(value: str) -> str:
    """Leave out the query parameters that sign a URL: they differ each time the same thing is signed.

    `X-Amz-…` and `X-Goog-…` always count; general names such as `Expires` only beside a signature. The rest
    of the text stays to the character.

    >>> strip_signature("https://b.example/k?versionId=3&X-Amz-Date=20260301T000000Z&X-Amz-Signature=0a")
    'https://b.example/k?versionId=3'
    >>> strip_signature("https://cdn.example/k?Expires=1&Signature=2&Key-Pair-Id=3#page")
    'https://cdn.example/k#page'
    >>> strip_signature("https://shop.example/offer?Expires=1")
    'https://shop.example/offer?Expires=1'
    """
    location, mark, rest = value.partition("?")
    if not mark or "#" in location:
        return value
    query, hash_mark, fragment = rest.partition("#")
    parameters = query.split("&")
    names = [unquote(parameter.partition("=")[0]).lower() for parameter in parameters]
    signing = set().union(*(group for mark_name, group in _SIGNING_WITH.items() if mark_name in names))
    kept = [
        parameter
        for parameter, name in zip(parameters, names, strict=True)
        if name not in signing and not _SIGNING.fullmatch(name)
    ]
    if len(kept) == len(parameters):
        return value
    return location + ("?" + "&".join(kept) if kept else "") + hash_mark + fragment


# https://html.spec.whatwg.org/#valid-e-mail-address, with the letters of RFC 6531 and SMTP's lengths.
_EMAIL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@([^\W_]([\w-]{0,61}[^\W_])?)(\.[^\W_]([\w-]{0,61}[^\W_])?)*")


def normalize_email(value: str) -> Normalized:
    """Read an e-mail address, the bare one; the canonical form is in lower case.

    Mailboxes that differ in case alone are allowed by RFC 5321 and not seen in practice; a look-up wants them
    as one.

    >>> normalize_email(" Jane.Doe@Example.COM ")
    Normalized(canonical_value='jane.doe@example.com', is_valid=True, number_value=None, date_value=None)
    >>> normalize_email("Jane Doe <jane@example.com>").is_valid
    False
    """
    text = value.strip(_BLANKS)
    if len(text) > 254 or _EMAIL.fullmatch(text) is None:
        return Normalized(text, is_valid=False)
    return Normalized(text.lower())


_NUMBER = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?")


def normalize_number(value: str) -> Normalized:
    """Read a decimal number exactly; the canonical form has no exponent and no needless zero or sign.

    A number is valid if DynamoDB can hold it: 38 significant digits, magnitudes from 1e-130 to 9.9…e125
    (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html).
    Group separators, `1_000`, `NaN` and `Infinity` are not numbers that people enter.

    >>> normalize_number("+001.50").canonical_value, normalize_number("15e-1").number_value
    ('1.5', Decimal('1.5'))
    >>> [normalize_number(text).is_valid for text in ("1_000", "1,000", "NaN", "1e126", ".", "٣")]
    [False, False, False, False, False, False]
    """
    text = value.strip(_BLANKS)
    match = _NUMBER.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        return Normalized(text, is_valid=False)
    sign, whole, fraction, exponent = match[1], match[2], match[3] or "", match[4] or "0"
    digits = (whole + fraction).lstrip("0")
    significant = digits.rstrip("0")
    if not significant:
        return Normalized("0", number_value=Decimal(0))
    exponent_digits = exponent.lstrip("+-").lstrip("0")
    if len(exponent_digits) > 5:  # beyond every bound, and Python reads no number of thousands of digits
        return Normalized(text, is_valid=False)
    exponent_value = int(exponent_digits or 0) * (-1 if exponent.startswith("-") else 1)
    power = exponent_value - len(fraction) + len(digits) - len(significant)
    if len(significant) > 38 or not -130 <= power + len(significant) - 1 <= 125:
        return Normalized(text, is_valid=False)
    number = Decimal((sign == "-", tuple(map(int, significant)), power))
    return Normalized(format(number, "f"), number_value=number)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def normalize_date(value: str) -> Normalized:
    """Read a date or a date-time; the canonical form is the moment, in UTC, and a date is its midnight.

    ISO 8601 dates and date-times (a space may stand for the `T`, seconds may be missing), eight digits as
    the basic form of a date, ten as seconds and thirteen as milliseconds since 1970. Without a zone it is UTC.

    >>> {normalize_date(text).date_value for text in ("2026-03-01", "20260301", "1772323200", "1772323200000")}
    {'2026-03-01T00:00:00.000Z'}
    >>> normalize_date("03/01/2026").is_valid
    False
    """
    text = value.strip(_BLANKS)
    try:
        moment = format_time(_read_moment(text))
    except ValueError:
        return Normalized(text, is_valid=False)
    return Normalized(moment, date_value=moment)


def _read_moment(text: str) -> datetime:
    if re.fullmatch(r"[0-9]{8}", text):
        return parse_iso(f"{text[:4]}-{text[4:6]}-{text[6:]}")
    if re.fullmatch(r"[0-9]{10}", text):
        return _EPOCH + timedelta(seconds=int(text))
    if re.fullmatch(r"[0-9]{13}", text):
        return _EPOCH + timedelta(milliseconds=int(text))
    return parse_iso(text)


_LOCATOR = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]+:[/\\]")


def normalize_location(value: str) -> Normalized:
    """Read where a file lies: a URL's canonical form if it is one, else the text, an S3 path perhaps.

    >>> normalize_location("https://B.s3.amazonaws.com/k?X-Amz-Signature=0a").canonical_value
    'https://b.s3.amazonaws.com/k'
    >>> normalize_location("bucket/prefix/file.wav").canonical_value
    'bucket/prefix/file.wav'
    """
    return Normalized(normalize_url(value).canonical_value if _LOCATOR.match(value) else strip_signature(value))
