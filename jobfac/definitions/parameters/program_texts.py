"""Which arguments of a command an interpreter reads as a program, so that no value may become a part of them."""

import re
from collections.abc import Iterator, Mapping, Sequence
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


_NEVER = r"(?!)"


class _Option(NamedTuple):
    """How an interpreter takes text of a program: by an option before it, or by one that is joined with it.

    ``words``: which of its words that are no options are such text; without it, the option that is joined counts before
    the first of them only.
    ``leading``: the options with an argument among which those before a text count, in front of the first other word;
    None: they count everywhere.
    ``several``: what has such text in all words up to the next option.
    """

    before: str
    joined: str
    words: Literal["none", "first", "others"] | None = None
    leading: str | None = None
    several: str = _NEVER


_TEXTS = {
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
    r"(sqlite3|duckdb)": _Option(r"-cmd|-c|-s", _NEVER, "others"),
}
"""By program, the options whose argument is text of a program."""

_PARTS = {
    # Modules and settings that an interpreter loads before its script, which has options of its own behind it.
    r"python[0-9.]*": _Option(r"-[bBdEiIOPqRsSuvx]*[mWX]", r"-[bBdEiIOPqRsSuvx]*[mWX].", leading=r"-[A-Za-z]*[WX]"),
    r"perl[0-9.]*": _Option(
        r"-[aclnpsStTuUvwWX0]*I", r"-[aclnpsStTuUvwWX0-9]*([mMI]|dt?:).", leading=r"-[aclnpsStTuUvwWX0]*[IeE]"
    ),
    r"ruby[0-9.]*": _Option(r"-[alnpsSvwW0-9]*[rI]", r"-[alnpsSvwW0-9]*[rI].", leading=r"-[alnpsSvwW0-9]*[rIeC]"),
    r"lua[0-9.]*": _Option(r"-l", r"-l.", leading=r"-[le]"),
    r"(node|nodejs|deno|bun)": _Option(
        r"-r|--(require|import|preload|(experimental-)?loader|import-map)",
        r"-r.|--(require|import|preload|(experimental-)?loader|import-map)=",
        leading=r"-[repC]|-pe|--(require|import|preload|(experimental-)?loader|import-map|eval|print|env-file)",
    ),
    r"php[0-9.]*": _Option(
        r"-[cdz]|--(define|php-ini|zend-extension)",
        r"-[cdz].|--(define|php-ini|zend-extension)=",
        leading=r"-[cdzrBRFEf]|--(define|php-ini|zend-extension|run|file|process-[a-z]+)",
    ),
    r"(expect|capsh|nu|xonsh|elvish|sage)": _Option(
        r"-[A-Za-z]*[ce]|--(commands|execute)", r"-[ce].|--(commands|execute)=", leading=r"-[ce]|--(commands|execute)"
    ),
    r"(guile|racket|elixir|iex|octave(-cli)?|scala(-cli)?|clojure|clj|bb|ghc|runghc|sbcl|gnuplot)": _Option(
        r"-[ceE]|--?(eval|rpc-eval)",
        r"-[ceE].|--?(eval|rpc-eval)=",
        leading=r"-[ceElirIL]|--?(eval|rpc-eval|load|require|path)",
    ),
    # Variables that a program puts into a script as text.
    r"psql(\.exe)?": _Option(
        r"-[AabEeHlnqSstVWwXxz01]*v|--(set?|va[a-z]*)", r"-[AabEeHlnqSstVWwXxz01]*v.|--(set?|va[a-z]*)=", "none"
    ),
    r"sqlcmd(\.exe)?": _Option(r"-v|--variables", r"-v.|--variables=", "none", several=r"-v|--variables"),
    r"sqlplus(\.exe)?": _Option(_NEVER, r"@.", "none", several=r"@.*"),
    r"(hive|spark-sql)": _Option(
        r"-[ed]|--(hivevar|hiveconf|define|conf)", r"-[ed].|--(hivevar|hiveconf|define|conf)=", "none"
    ),
    r"(usql|beeline|impala-shell|trino|presto|cqlsh|snowsql|cockroach|vsql|nzsql)": _Option(
        r"-[ceqQvD]|--(command|execute|query|set|var|variable|hivevar|hiveconf)",
        r"-[ceqQvD].|--(command|execute|query|set|var|variable|hivevar|hiveconf)=",
        "none",
    ),
    r"ansible(-[a-z]+)?": _Option(r"-[ea]|--(extra-vars|args)", r"-[ea].|--(extra-vars|args)=", "none"),
    # Further programs that run what they are given.
    r"sg": _Option(r"-c", _NEVER, "others"),
    r"matlab": _Option(r"-r|-batch", _NEVER, "none"),
    r"(erl|werl)": _Option(r"-eval|-run|-s", _NEVER, "none", several=r"-run|-s"),
    r"emacs(client)?": _Option(r"-[ef]|--?(eval|execute|funcall)", r"--?(eval|execute|funcall)=", "none"),
    r"(gdb|lldb)": _Option(
        r"--?(ex|iex|eval-command|init-eval-command)|-[oO]|--one(-[a-z]+)*",
        r"--?(ex|iex|eval-command|init-eval-command|one(-[a-z]+)*)=",
        "none",
    ),
    r"(vi|vim|nvim|gvim)": _Option(r"-c|--cmd", r"-c.|\+.", "none"),
}
"""By program, the options whose argument becomes a part of a program, or chooses one: free text is none of them."""


def texts_of_programs(words: Sequence[str]) -> frozenset[int]:
    """Return the places of the words that a program among the words before them reads as a program.

    One pass over the words: a command may have many thousands.
    """
    return frozenset({*_of_shells(words), *_of_interpreters(words, _TEXTS), *_of_bcp(words)})


def parts_of_programs(words: Sequence[str]) -> frozenset[int]:
    """Return the places of further words in which free text would become a part of a program, or choose one.

    Such are variables of a SQL script and modules. Values that can be no text of a program may stand there.
    """
    return frozenset(_of_interpreters(words, _PARTS))


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
    several: bool = False

    def reads(self, before: str, word: str) -> bool:
        """Whether it reads the word as a program. ``before``: the word before it."""
        option = self.option
        return bool(
            ((option.leading is None or self.none_between) and re.fullmatch(option.before, before))
            or self.several
            or ((option.words or self.none_between) and re.match(option.joined, word, re.DOTALL))
            or (option.words == "first" and self.none_between and not word.startswith("-"))
            or (option.words == "others" and self.some_between)
        )

    def passes(self, before: str, word: str) -> None:
        """Go on behind the word."""
        option = self.option
        if re.fullmatch(option.several, word, re.DOTALL):
            self.several = True
        elif word.startswith("-"):
            self.several = False
        if not word.startswith("-") and not (option.leading and re.fullmatch(option.leading, before)):
            self.none_between, self.some_between = False, True


def _of_interpreters(words: Sequence[str], known_ones: Mapping[str, _Option]) -> Iterator[int]:
    seen: dict[str, _Seen] = {}
    for at, word in enumerate(words):
        if any(one.reads(words[at - 1], word) for one in seen.values()):
            yield at
        for one in seen.values():
            one.passes(words[at - 1], word)
        name = _name(word)
        if _OPEN_SHELLS.fullmatch(name.lower()) or _SHELLS.fullmatch(name.lower()):
            continue
        for known, option in known_ones.items():
            if re.fullmatch(known, name, re.IGNORECASE):
                seen.setdefault(known, _Seen(option)).none_between = True


def _of_bcp(words: Sequence[str]) -> Iterator[int]:
    """Yield the places of the queries that bcp exports, as in `bcp "SELECT ..." queryout FILE`."""
    for at, word in enumerate(words[2:]):
        if word.lower() == "queryout" and re.fullmatch(r"bcp(\.exe)?", _name(words[at]), re.IGNORECASE):
            yield at + 1
