"""Which arguments of a command an interpreter reads as a program, so that no value may become a part of them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

_SHELLS = re.compile(r"(ba|rba|da|k|z|c|tc|fi|a|mk|pdk)?sh[0-9.-]*|su|runuser|busybox|flock|script")
_OPEN_SHELLS = re.compile(
    r"(cmd|powershell|pwsh)(\.exe)?|ssh|eval|watch|parallel|hyperfine|tmux|([bgn]|mingw32-)?make(\.exe)?"
)
"""Programs that read all of their arguments as text of a shell, or may do so. `make V=...` puts V into its recipes."""

_SHELL_OPTION = re.compile(r"-[A-Zabd-z]*c[A-Za-z]*")
"""The option of a shell after which its text follows. Others may be joined with it, as in `bash -ceu`."""


class _Option(NamedTuple):
    """How an interpreter takes text of a program: by an option before it, or by one that is joined with it.

    ``words``: which of its words that are no options are such text; without the option that is joined counts before the
    first of them only.
    """

    before: str
    joined: str
    words: Literal["none", "first", "others"] | None = None


_INTERPRETERS = {
    r"python[0-9.]*": _Option(r"-[A-Za-z]*c", r"-[A-Za-z]*c."),
    r"perl[0-9.]*": _Option(r"-[A-Za-z]*[eE]", r"-[A-Za-z]*[eE]."),
    r"(ruby|lua)[0-9.]*": _Option(r"-[A-Za-z]*e", r"-[A-Za-z]*e."),
    r"(node|nodejs|deno|bun)": _Option(r"-[ep]|-pe|--eval|--print|eval", r"-[ep].|--(eval|print)="),
    r"php[0-9.]*": _Option(r"-[rBRE]|--(run|process-(begin|code|end))", r"-[rBRE].|--(run|process-(begin|code|end))="),
    r"(R|Rscript|julia|osascript|groovy)": _Option(r"-e|--eval", r"-e.|--eval="),
    r"[gmn]?awk": _Option(r"-e|-v|--source", r"-[ev].|--source=", "first"),
    r"g?sed": _Option(r"-[A-Za-z]*e|--expression", r"-[A-Za-z]*e.|--expression=", "first"),
    # Options without an argument may be joined with it, as in `psql -Atc`, and long ones may be shortened.
    r"psql(\.exe)?": _Option(
        r"-[AabEeHlnqSstVWwXxz01]*c|--co[a-z]*", r"-[AabEeHlnqSstVWwXxz01]*c.|--co[a-z]*=", "none"
    ),
    r"(mysql|mariadb)(\.exe)?": _Option(
        r"-[AbBcCEfGHijLmnNoqrstTUvVwWX]*e|--(exe|init-c)[a-z-]*",
        r"-[AbBcCEfGHijLmnNoqrstTUvVwWX]*e.|--(exe|init-c)[a-z-]*=",
        "none",
    ),
    r"(sqlcmd|osql|isql|mongo(sh)?|clickhouse(-client|-local)?)(\.exe)?": _Option(
        r"-q|-Q|--(query|initial-query|eval)", r"-[qQ].|--(query|initial-query|eval)=", "none"
    ),
    r"env": _Option(r"-[A-Za-z0]*S|--split.string", r"-[A-Za-z0]*S.|--split.string=", "none"),
    r"(sqlite3|duckdb)": _Option(r"-cmd|-c|-s", r"(?!)", "others"),
}
"""By program, the options whose argument is text of a program."""


def texts_of_programs(words: tuple[str, ...]) -> frozenset[int]:
    """Return the places of the words that a program among the words before them reads as a program.

    One pass over the words: a command may have many thousands.
    """
    return frozenset({*_of_shells(words), *_of_interpreters(words), *_of_bcp(words)})


def _name(word: str) -> str:
    return PurePosixPath(word.replace("\\", "/")).name


def _of_shells(words: Sequence[str]) -> Iterator[int]:
    """Yield the places of the texts that shells run: what follows one are arguments, as in `sh -c 'echo "$1"' sh X`."""
    text = lowest = open_shell = None  # what a shell at this place would run; the first shell of each kind
    behind = [*range(len(words) + 1)]  # the place behind the options that begin at a place
    for at in reversed(range(len(words))):
        word, name = words[at], _name(words[at]).lower()
        if _OPEN_SHELLS.fullmatch(name):
            open_shell = at
        elif _SHELLS.fullmatch(name):
            lowest = at
            if text is not None:
                yield text
        if word[:1] in ("-", "+"):
            # The name of an option follows -o, and one follows each o of joined options.
            step = 1 + (0 if word.startswith("--") else len(re.findall("[oO]", word)))
            behind[at] = behind[min(at + step, len(words))]
        if _SHELL_OPTION.fullmatch(word):
            text = behind[at]
    if open_shell is not None:
        yield from range(open_shell + 1, len(words))
    if lowest is not None:
        yield from (at for at in range(lowest + 1, len(words)) if words[at].startswith("--command="))


@dataclass
class _Seen:
    """An interpreter among the words so far. ``none_between``: since its last occurrence there were only options;
    ``some_between``: since its first one there were others, too."""

    option: _Option
    none_between: bool = True
    some_between: bool = False

    def reads(self, before: str, word: str) -> bool:
        """Whether it reads the word as a program. ``before``: the word before it."""
        option = self.option
        return bool(
            re.fullmatch(option.before, before)
            or ((option.words or self.none_between) and re.match(option.joined, word, re.DOTALL))
            or (option.words == "first" and self.none_between and not word.startswith("-"))
            or (option.words == "others" and self.some_between)
        )


def _of_interpreters(words: Sequence[str]) -> Iterator[int]:
    seen: dict[str, _Seen] = {}
    for at, word in enumerate(words):
        if any(one.reads(words[at - 1], word) for one in seen.values()):
            yield at
        if not word.startswith("-"):
            for one in seen.values():
                one.none_between, one.some_between = False, True
        name = _name(word)
        if _OPEN_SHELLS.fullmatch(name.lower()) or _SHELLS.fullmatch(name.lower()):
            continue
        for known, option in _INTERPRETERS.items():
            if re.fullmatch(known, name, re.IGNORECASE):
                seen.setdefault(known, _Seen(option)).none_between = True


def _of_bcp(words: Sequence[str]) -> Iterator[int]:
    """Yield the places of the queries that bcp exports, as in `bcp "SELECT ..." queryout FILE`."""
    for at, word in enumerate(words[2:]):
        if word.lower() == "queryout" and re.fullmatch(r"bcp(\.exe)?", _name(words[at]), re.IGNORECASE):
            yield at + 1
