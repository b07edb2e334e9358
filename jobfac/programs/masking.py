"""Masks secrets in a stream of bytes that arrives in pieces, and in the values of a report."""

import base64
import codecs
import contextlib
import functools
import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

LEAST = 8
"""Minimum characters of a base64 form. Shorter ones occur in other text by chance."""

LINES, LONG = 60, 16
"""How many lines of a secret are masked alone, and from how many characters on: a key has so many, of 64 characters."""

BROKEN = 16
"""Characters of a base64 form from which on it is found in several lines. No program writes lines of fewer."""

TRIES = 1000
"""Places at the end of some output at most that are compared with the start of a secret."""

SEPARATOR = b"\xff"
"""Stands between two texts: no text contains it in UTF-8, so no secret that is text goes from one into the next."""


class Mask:
    """The secrets of one execution, in all forms in which programs usually show them. Empty secrets are ignored."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        given = [secret for secret in secrets if secret]
        forms = (form for secret in given for forms_of in _FORMS for form in forms_of(secret))
        self._periods = {form: period(form) for form in dict.fromkeys(forms)}
        long = (form for secret in given for form in base64_forms(secret) if len(form) >= BROKEN)
        self._broken = tuple(dict.fromkeys(long))
        self._numbers = frozenset(secret for secret in secrets if secret[:1] in b"-0123456789")
        longest_broken = 3 * max(map(len, self._broken), default=0)  # with a line end behind each character
        self.reach = max(longest_broken, *map(len, self._periods), 1) - 1
        """Maximum number of bytes that a secret may begin before a position and still cover it."""

    def apply(self, data: bytes) -> bytes:
        """Return `data` with every secret, even if they overlap, replaced by asterisks of the same length."""
        masked: bytearray | None = None
        for start, stop in self._in_lines(data):
            masked = bytearray(data) if masked is None else masked
            masked[start:stop] = _NO_LINE_END.sub(b"*", data[start:stop])
        for secret, step in self._periods.items():
            for at, end in _occurrences(data, secret, step):
                masked = bytearray(data) if masked is None else masked
                masked[at:end] = b"*" * (end - at)
        return data if masked is None else bytes(masked)

    def unfinished(self, data: bytes) -> int:
        """Return how many bytes at the end of `data` may be the start of an incomplete secret.

        Of a long secret that repeats itself, it may be more bytes than are: to find out would take seconds.
        """
        longest = self._unfinished_lines(data)
        return max([longest, *(_begun(data, secret) for secret in self._periods)])

    def _in_lines(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Yield from where to where the base64 of a secret stands in several lines, as `base64` writes it."""
        # One of the first two pieces stands in one line. To look for them costs little, to join the lines much.
        if not any(form[:8] in data or form[8:16] in data for form in self._broken):
            return
        joined, places = _joined_lines(data)
        for form in self._broken:
            for at, end in _occurrences(joined, form, self._periods[form]):
                start, stop = places(at), places(end - 1) + 1
                if stop - start > end - at:  # else it stands in one line, where it is found without this
                    yield start, stop

    def _unfinished_lines(self, data: bytes) -> int:
        """Do the same as ``unfinished`` for the base64 of a secret with line ends in between."""
        tail = data[-self.reach :] if self._broken else b""
        if b"\n" not in tail:
            return 0
        joined, places = _joined_lines(tail)
        longest = max(_begun(joined, form) for form in self._broken)
        return len(tail) - places(len(joined) - longest) if longest else 0

    def hide(self, value: Any) -> Any:
        """Return a JSON value with every secret in its strings and names masked, and numbers that are one.

        Raises:
            RecursionError: the value is nested too deeply.
        """
        if not self._periods:
            return value
        texts: list[bytes] = []
        _collect(value, texts)
        # All texts at once: to look for every form in each of a million short texts takes a minute.
        together = SEPARATOR.join(texts)
        masked = self.apply(together)
        if masked is together and not self._numbers:
            return value
        at, parts = 0, []
        for text in texts:
            parts.append(masked[at : at + len(text)].decode(errors="surrogatepass"))
            at += len(text) + len(SEPARATOR)
        return self._replaced(value, iter(parts))

    def _replaced(self, value: Any, texts: Iterator[str]) -> Any:
        """Return the value with these texts in the place of its own, which ``_collect`` found."""
        if isinstance(value, str):
            return next(texts)
        if isinstance(value, list):
            return [self._replaced(one, texts) for one in value]
        if isinstance(value, dict):
            return {next(texts): self._replaced(one, texts) for one in value.values()}
        if self._numbers and isinstance(value, int | float) and not isinstance(value, bool):
            written = json.dumps(value)
            return "*" * len(written) if written.encode() in self._numbers else value
        return value


_NO_LINE_END = re.compile(rb"[^\r\n]")
_LINE_END = re.compile(rb"(?<=[\w+/=-])\r?\n(?=[\w+/=-]|$)", re.ASCII)
"""A line end within a text in base64: others, such as empty lines, do not stand there."""


def _joined_lines(data: bytes) -> tuple[bytes, Callable[[int], int]]:
    """Return the data without the ends of lines, and a function from a place in it to that in the data."""
    ends = [(found.start(), found.end()) for found in _LINE_END.finditer(data)]
    joined, starts, shifts, before = [], [0], [0], 0
    for start, end in ends:
        joined.append(data[before:start])
        starts.append(starts[-1] + start - before)
        shifts.append(shifts[-1] + end - start)
        before = end
    joined.append(data[before:])
    return b"".join(joined), lambda place: place + shifts[bisect_right(starts, place) - 1]


def _occurrences(data: bytes, secret: bytes, step: int) -> Iterator[tuple[int, int]]:
    """Yield from where to where a secret stands, overlapping ones together. ``step``: its ``period``."""
    at = data.find(secret)
    while at >= 0:
        end = at + len(secret)
        while step and data.startswith(secret[-step:], end):
            end += step
        yield at, end
        at = data.find(secret, end - len(secret) + 1)


def _begun(data: bytes, secret: bytes) -> int:
    """Return how many bytes at the end of ``data`` are the beginning of an incomplete secret, up to ``TRIES`` tries."""
    at, tries = data.find(secret[:1], max(0, len(data) - len(secret) + 1)), 0
    while at >= 0 and tries < TRIES and not secret.startswith(data[at:]):
        at, tries = data.find(secret[:1], at + 1), tries + 1
    return len(data) - at if at >= 0 else 0


def in_encoding(secrets: Iterable[bytes], encoding: str) -> list[bytes]:
    """Return secrets, which are UTF-8, and beside them what a program prints for them in another encoding."""
    name = codecs.lookup(encoding).name
    others = [f"{name}-le", f"{name}-be"] if name in ("utf-16", "utf-32") else [name]  # without the mark of their order
    found = list(secrets)
    for text in [secret.decode(errors="ignore") for secret in found]:
        for other in others:
            with contextlib.suppress(UnicodeError):  # then no program can print it in this encoding
                found.append(text.encode(other))
    return found


def _collect(value: Any, texts: list[bytes]) -> None:
    """Add every string of a JSON value, and every name, in its order."""
    if isinstance(value, str):
        texts.append(value.encode(errors="surrogatepass"))
    elif isinstance(value, list):
        for one in value:
            _collect(one, texts)
    elif isinstance(value, dict):
        for name, one in value.items():
            texts.append(name.encode(errors="surrogatepass"))
            _collect(one, texts)


def period(secret: bytes) -> int:
    """Return by how many bytes a secret can be moved to overlap itself by half at least, as 1 for `aaaa`; 0: it cannot.

    Its occurrences may then begin at every such step. To mask each for itself takes seconds for a long one.
    """
    half = len(secret) // 2
    start = secret[: len(secret) - half]
    step = secret.find(start, 1)
    while 0 < step <= half and not secret.startswith(secret[step:]):
        # The start repeats itself in steps of the first one that was found. A longer step is one of the whole secret
        # only if the two do not both fit into the start (the theorem of Fine and Wilf): few are left to be tried.
        step = secret.find(start, max(step + 1, len(start) - step))
    return step if 0 < step <= half else 0


def base64_forms(secret: bytes) -> Iterator[bytes]:
    """Yield the parts of a secret's base64 that occur in the base64 of any bytes that contain it, in both alphabets.

    Three bytes become four characters, so the form depends on the number of preceding bytes modulo three. Characters
    that depend on the bytes next to the secret are left out.
    """
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret)
        form = encoded[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
        if len(form) >= LEAST:
            yield form
            yield form.translate(bytes.maketrans(b"+/", b"-_"))


_HTML_SAFE = ("", "&<>", "&'<=>", "\"&'+<>`")
"""Characters that encoders of JSON write as a code besides those that must be: most; Go; Gson; .NET."""


def json_forms(secret: bytes) -> Iterator[bytes]:
    """Yield the forms of a secret in a JSON string, as common encoders write it. None if it is not text."""
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        return
    # A secret may be long, but it has few different characters.
    for ascii_only in (True, False):
        plain = {ord(one): json.dumps(one, ensure_ascii=ascii_only)[1:-1] for one in set(text)}
        for coded in _HTML_SAFE:
            forms = plain | {ord(one): f"\\u{ord(one):04x}" for one in coded}
            yield text.translate(forms).encode()
            yield text.translate(forms | {ord("/"): "\\/"}).encode()
            upper = {one: _CODE.sub(lambda found: found[0].upper(), form) for one, form in forms.items()}
            yield text.translate(upper).encode()


_CODE = re.compile(r"(?<=\\u).{4}")

_UNQUOTED = ("", "/", "!*'()", "!*()", "*", "$&+:=@", "!*'();/?:@&=+$,#")
"""Characters that encoders of URLs leave as they are, besides letters, digits and `-._`."""


def url_forms(secret: bytes) -> Iterator[bytes]:
    """Yield the forms of a secret in a URL or a form, as common encoders write it."""
    text = secret.decode("latin-1")
    yield from (text.translate(table).encode() for table in _url_tables())


@functools.cache
def _url_tables() -> Sequence[Mapping[int, str]]:
    """Return for each encoder what it writes for each octet."""
    tables = []
    for unquoted, blank, tilde in product(_UNQUOTED, ("%20", "+"), ("~", "%7E")):
        table = {one: quote(bytes([one]), safe=unquoted) for one in range(256)} | {ord(" "): blank, ord("~"): tilde}
        tables += [table, {one: form.lower() if len(form) > 1 else form for one, form in table.items()}]
    return tables


def quoted_forms(secret: bytes) -> Iterator[bytes]:
    """Yield the forms of a secret in sentences that quote it, such as those about files. None if it is not text."""
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        return
    quoted = repr(f"'\"{text}")[4:-1]  # with both kinds of quotes the single ones are escaped
    yield quoted.encode()
    yield quoted.replace("\\'", "'").encode()


def path_forms(secret: bytes) -> Iterator[bytes]:
    """Yield the forms of a secret that a definition can put into a path: without doubled slashes, and its folder.

    None for an address or an absolute path, which no path takes: its folder, such as /var/lib, is in many texts.
    """
    try:
        path = PurePosixPath(secret.decode())
    except UnicodeDecodeError:
        return
    if b"/" in secret and b"://" not in secret and not path.is_absolute():
        yield from (form for one in (path, path.parent) if len(form := str(one).encode()) >= LEAST)


def shell_forms(secret: bytes) -> Iterator[bytes]:
    """Yield the forms of a secret that a shell writes in its trace (`set -x`), and Python for a shell."""
    if b"'" in secret:
        yield secret.replace(b"'", rb"'\''")
        yield secret.replace(b"'", b"""'"'"'""")


def line_forms(secret: bytes) -> Iterator[bytes]:
    """Yield a secret without the white space around it, and each long line of one with several lines, such as a key."""
    if len(trimmed := secret.strip()) >= LEAST:
        yield trimmed
    lines = trimmed.split(b"\n")
    if len(lines) > 1:
        yield from (text for line in lines[:LINES] if len(text := line.strip()) >= LONG and text[:5] != b"-----")


_FORMS = (lambda one: (one,), base64_forms, json_forms, url_forms, quoted_forms, path_forms, shell_forms, line_forms)

NOTHING_HIDDEN = Mask(())
"""The mask of an execution without secrets."""
