"""Which arguments of a command an interpreter reads as a program, so that no value may become a part of them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Literal

SCRIPT_SHELLS = re.compile(r"(ba|rba|da|k|z|a|mk|pdk)?sh[0-9.-]*")
"""Shells whose first word that is no option is a file: what follows are its arguments, as in `bash load.sh -c X`."""

_SHELLS = re.compile(r"(c|tc|fi)sh[0-9.-]*|su|runuser|script")
"""Programs that give a shell the text behind -c, wherever that stands."""

_OPEN_SHELLS = re.compile(r"(cmd|powershell|pwsh)(\.exe)?|ssh|eval|watch|parallel|hyperfine|tmux")
"""Programs that read all of their arguments as text of a shell, or may do so."""

_SHELL_OPTION = re.compile(r"-[A-Zabd-z]*c[A-Za-z]*|--(c|se)[a-z-]*")
"""The option of a shell after which its text follows. Others may be joined with it, as in `bash -ceu`, and long ones
may be shortened, as in `su --comm`."""

_JOINED = re.compile(r"-[A-Zabd-z]*c.|--(c|se)[a-z-]*=", re.DOTALL)
"""The same with the text, for programs that are no shells themselves."""

_ENTRYPOINT = re.compile(r"--(entrypoint|exec|startas)")
"""Options that name a program whose arguments follow later, as in `docker run --entrypoint sh IMAGE -c TEXT`."""

POWERSHELLS = re.compile(r"(powershell|pwsh)(\.exe)?")
_POWERSHELL_FILE = re.compile(r"[-/]f(i(le?)?)?", re.IGNORECASE)
_POWERSHELL_SWITCH = re.compile(r"[-/](no[a-z]+|sta|mta|l|login|i|interactive)", re.IGNORECASE)
_POWERSHELL_SETTING = re.compile(
    r"[-/](ex[a-z]*|ep|w[a-z]*|v[a-z]*|(in|o)[a-z]*|if|of|psconsolefile|conf[a-z]*|settings[a-z]*|custom[a-z]*)",
    re.IGNORECASE,
)
"""Options of PowerShell that may stand before `-File SCRIPT`, without and with an argument."""

_NEVER = r"(?!)"

_PSQL = r"-[AabEeHlnqSstVWwXxz01]*"
_SQLCMD = r"[-/][AbCeEgGIjkMNRrupWXxz]*"
_MYSQL = r"-[AbBcCEfGHijLmnNoqrstTUvVwWX]*"
_ANSIBLE = r"-[bCDhkKovw]*"
_PERL = r"-[aclnpsStTuUvwWX0-9]*"
"""The beginning of joined options of these programs: those without an argument, as in `psql -Atc`."""


@dataclass(frozen=True)
class _Option:
    """How an interpreter takes text of a program: in the word behind an option, or joined with one.

    ``short``: options with which the text may be joined as it is; ``long``: by =; ``apart``: not at all.
    ``text``: how the text begins. ``other``: how else a word with such text begins.
    ``words``: which of its words that are no options are such text; without it, the options count in front of the first
    of them only, which is a script with options of its own.
    ``leading``: options with an argument, which is not the first of those words.
    ``given``: options that take the place of the first of those words.
    ``several``: what has such text in all words up to the next option. ``ends``: what is such an option.
    """

    short: str = _NEVER
    long: str = _NEVER
    words: Literal["none", "first", "others"] | None = None
    apart: str = _NEVER
    text: str = "."
    other: str = _NEVER
    leading: str = _NEVER
    given: str = _NEVER
    several: str = _NEVER
    ends: str = r"-|/[A-Za-z]$"

    @cached_property
    def before(self) -> re.Pattern[str]:
        """Matches the word before a text."""
        return re.compile(f"{self.short}|{self.long}|{self.apart}")

    @cached_property
    def joined(self) -> re.Pattern[str]:
        """Matches the beginning of a word with a text."""
        return re.compile(f"(?:{self.short}|(?:{self.long})=)(?:{self.text})|{self.other}", re.DOTALL)


_TEXTS = {
    r"python[0-9.]*": _Option(r"-[A-Za-z]*c", leading=r"-[A-Za-z]*[WX]|--(check-hash-based-pycs)"),
    r"perl[0-9.]*": _Option(r"-[A-Za-z0-9]*[eE]", leading=r"-[A-Za-z0-9]*[IeE]"),
    r"(ruby|lua)[0-9.]*": _Option(r"-[A-Za-z0-9]*e", leading=r"-[A-Za-z0-9]*[rIeECXl]|--[a-z-]+"),
    r"(node|nodejs|bun)": _Option(
        r"-[ep]",
        r"--(eval|print)",
        apart="-pe",
        leading=r"-[repC]|-pe|--(?!no-|inspect(-brk)?$|trace-(?!event)|enable|expose|experimental-(?!loader|def))[a-z-]+",
    ),
    r"deno": _Option(r"-[ep]", r"--(eval|print)", "none", apart="eval"),
    r"php[0-9.]*": _Option(r"-[rBRE]", r"--(run|process-(begin|code|end))", leading=r"-[cdzrBRFEfSt]|--[a-z-]+"),
    r"(?-i:R)": _Option(r"-e", "--eval", "none"),
    r"(Rscript|julia|osascript|groovy)": _Option(
        r"-[eE]", r"--(eval|print)", leading=r"-[A-Za-z]+|--(?!vanilla|no-|quiet|verbose)[a-z-]+"
    ),
    # The argument of its -v is a value: only characters after a backslash have a meaning in it.
    r"[gmn]?awk": _Option(
        r"-[eil]",
        r"--(source|include|load)",
        "first",
        leading=r"-[vFilW]|--(assign|field-separator|include|load)",
        given=r"-[ef].|--(source|file)=",
    ),
    r"g?sed": _Option(
        r"-[A-Za-z]*e",
        r"--e[a-z]*",
        "first",
        leading=r"-l|--(line-length)",
        given=r"-[Enrsuz]*[ef].|--(e|fi)[a-z]*=",
    ),
    # Long options may be shortened.
    r"psql(\.exe)?": _Option(rf"{_PSQL}c", r"--co[a-z]*", "none"),
    r"(mysql(sh)?|mariadb)(\.exe)?": _Option(rf"{_MYSQL}e", r"--(exe|init-c)[a-z-]*", "none"),
    r"(sqlcmd|osql|isql)(\.exe)?": _Option(rf"{_SQLCMD}[qQ]", r"--(query|initial-query)", "none", apart="query"),
    r"(mongo(sh)?|clickhouse(-client|-local)?)(\.exe)?": _Option("-q", r"--(query|eval)", "none"),
    r"env": _Option(r"-[A-Za-z0]*S", r"--split.string", "none"),
    r"(sqlite3|duckdb)": _Option(
        words="others", apart=r"-cmd|-c|-s", leading=r"--?(separator|newline|nullvalue|init|cmd|vfs)"
    ),
    # The first word is the name of its file, unless it is a number of seconds, or a value that may be one.
    r"flock": _Option(r"-[a-z]*c", r"--com[a-z]*", leading=r"(.*/)?flock|-.*|[0-9.]+|\$\{.*"),
}
"""By program, the options whose argument is text of a program."""

_LOADED = r"--(require|import|preload|(experimental-)?loader|import-map)"
_SETTINGS = r"--(define|php-ini|zend-extension)"

_PARTS = {
    # Modules and settings that an interpreter loads before its script, which has options of its own behind it.
    r"python[0-9.]*": _Option(r"-[bBdEiIOPqRsSuvx]*[mWX]", leading=r"-[A-Za-z]*[WX]"),
    r"perl[0-9.]*": _Option(rf"{_PERL}I", other=rf"{_PERL}([mM]|dt?:).", leading=rf"{_PERL}[IeE]"),
    r"ruby[0-9.]*": _Option(r"-[alnpsSvwW0-9]*[rI]", leading=r"-[alnpsSvwW0-9]*[rIeC]"),
    r"lua[0-9.]*": _Option(r"-l", leading=r"-[le]"),
    r"(node|nodejs|deno|bun)": _Option(r"-r", _LOADED, leading=rf"-[repC]|-pe|{_LOADED}|--(eval|print|env-file)"),
    r"php[0-9.]*": _Option(r"-[cdz]", _SETTINGS, leading=rf"-[cdzrBRFEf]|{_SETTINGS}|--(run|file|process-[a-z]+)"),
    r"(expect|capsh|nu|xonsh|elvish|sage)": _Option(
        r"-[ce]", r"--(commands|execute)", apart=r"-[A-Za-z]*[ce]", leading=r"-[ce]|--(commands|execute)"
    ),
    r"(guile|racket|elixir|iex|octave(-cli)?|scala(-cli)?|clojure|clj|bb|ghc|runghc|sbcl|gnuplot)": _Option(
        r"-[ceE]", r"--?(eval|rpc-eval)", leading=r"-[ceElirIL]|--?(eval|rpc-eval|load|require|path)"
    ),
    # Variables that a program puts into a script as text, as `make V=...` does into its recipes.
    r"([bgn]|mingw32-)?make(\.exe)?": _Option(other=".", words="none"),
    r"psql(\.exe)?": _Option(rf"{_PSQL}v", r"--(set?|va[a-z]*)", "none"),
    # The name of a file to which psql writes may be `|command`.
    r"(psql)(\.exe)?": _Option(rf"{_PSQL}o", r"--o[a-z]*", "none", text=r"\||\$\{"),
    r"sqlcmd(\.exe)?": _Option(rf"{_SQLCMD}v", "--variables", "none", several=rf"{_SQLCMD}v|--variables"),
    r"(sqlplus|sqlcl|sql)(\.exe)?": _Option(words="none", other="@.", several=r"@.*", ends=_NEVER),
    r"(hive|spark-sql)": _Option(r"-[ed]", r"--?(hivevar|hiveconf|define|conf)", "none"),
    r"(usql|beeline|impala-shell|trino|presto|cqlsh|snowsql|cockroach|vsql|nzsql)": _Option(
        r"-[ceqQvD]", r"--?(command|execute|query|set|var|variable|hivevar|hiveconf)", "none"
    ),
    r"ansible(-[a-z]+)?": _Option(rf"{_ANSIBLE}[ea]", r"--(ex|ar)[a-z-]*", "none"),
    r"rsync": _Option(r"-[A-Za-z]*e", r"--(rsh|rsync-path)", "none"),
    # Further programs that run what they are given.
    r"sg": _Option(words="others", apart="-c"),
    r"matlab": _Option(words="none", apart=r"-r|-batch"),
    r"(erl|werl)": _Option(words="none", apart=r"-eval|-run|-s", several=r"-run|-s"),
    r"emacs(client)?": _Option(apart=r"-[ef]", long=r"--?(eval|execute|funcall)", words="none"),
    r"(gdb|lldb)": _Option(
        apart=r"-[oO]", long=r"--?(ex|iex|eval-command|init-eval-command)|--one(-[a-z]+)*", words="none"
    ),
    r"(ex|vi|vim|nvim|gvim)": _Option("-c", words="none", apart=r"-[EMNRZemns]*c|--cmd", other=r"\+."),
}
"""By program, the options whose argument becomes a part of a program, or chooses one: free text is none of them."""


def texts_of_programs(words: Sequence[str]) -> Mapping[int, str]:
    """Return the places of the words that a program among the words before them reads as a program, with its name.

    One pass over the words: a command may have many thousands.
    """
    return {**dict(_of_interpreters(words, _TEXTS)), **dict(_of_bcp(words)), **dict(_of_shells(words))}


def parts_of_programs(words: Sequence[str]) -> frozenset[int]:
    """Return the places of further words in which free text would become a part of a program, or choose one.

    Such are variables of a SQL script and modules. Values that can be no text of a program may stand there.
    """
    return frozenset(at for at, _ in _of_interpreters(words, _PARTS))


def name_of_program(word: str) -> str:
    """Return the name of the program that a word may be. A folder and a URL are none."""
    option, is_set, value = word.partition("=")
    path = (value if is_set and _ENTRYPOINT.fullmatch(option) else word).replace("\\", "/")
    return "" if path.endswith("/") or "://" in path else PurePosixPath(path).name


def _is_entrypoint(words: Sequence[str], at: int) -> bool:
    """Whether the program at a place is named by an option, so that other words stand before its own options."""
    return _ENTRYPOINT.match(words[at]) is not None or (at > 0 and _ENTRYPOINT.fullmatch(words[at - 1]) is not None)


def _of_shells(words: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield the places of the texts that shells run: what follows one are arguments, as in `sh -c 'echo "$1"' sh X`."""
    script = anywhere = of_text = ""  # the shells whose options stand here, whose -c may, and whose text comes next
    behind = 0  # where the arguments of an option end
    is_rsync = False
    for at, word in enumerate(words):
        if at < behind:
            continue
        if word[:1] in ("-", "+"):
            if of_text or (anywhere and _JOINED.match(word)):
                yield at, of_text or anywhere
            if (script or anywhere) and _SHELL_OPTION.fullmatch(word):
                of_text = script or anywhere
            if script or of_text:
                behind = at + 1 + _arguments(word)
        elif of_text:
            yield at, of_text
            script = of_text = ""
        elif not word.startswith("${"):  # a value may be an option, too
            script = ""
        name = name_of_program(word).lower()
        is_rsync |= name == "rsync"
        if _SHELLS.fullmatch(name) or (SCRIPT_SHELLS.fullmatch(name) and _is_entrypoint(words, at)):
            anywhere = name
        elif SCRIPT_SHELLS.fullmatch(name):
            script = name
        elif _OPEN_SHELLS.fullmatch(name) and not (word == "CMD" and at and name_of_program(words[at - 1]) == "R"):
            if file := _script_of_powershell(words, at):
                yield from ((place, name) for place in range(at + 1, file + 1))
            elif not (is_rsync and re.fullmatch(r"-[A-Za-z]*e|--rsh", words[at - 1])):  # not `rsync -e ssh`
                yield from ((place, name) for place in range(at + 1, len(words)))
                return


def _arguments(option: str) -> int:
    """Return how many arguments follow an option of a shell: the name of an option follows each o of joined ones."""
    if option.startswith("--"):
        return int(re.fullmatch(r"--(rcfile|init-file|emulate)", option) is not None)
    return len(re.findall("[oO]", option))


def _script_of_powershell(words: Sequence[str], at: int) -> int | None:
    """Return the place of the script that PowerShell at a place runs by `-File`; None: it runs text.

    The arguments behind a script are never text.
    """
    if not POWERSHELLS.fullmatch(name_of_program(words[at]).lower()):
        return None
    place = at + 1
    while place < min(len(words) - 1, at + 30):
        if _POWERSHELL_FILE.fullmatch(words[place]):
            return None if words[place + 1][:1] in ("", "-") else place + 1
        if not (_POWERSHELL_SWITCH.fullmatch(words[place]) or _POWERSHELL_SETTING.fullmatch(words[place])):
            return None
        place += 1 if _POWERSHELL_SWITCH.fullmatch(words[place]) else 2
    return None


@dataclass
class _Seen:
    """An interpreter among the words so far. ``none_between``: since its last occurrence there were only options;
    ``some_between``: since its first one there were others, too; ``is_entrypoint``: its options come later."""

    option: _Option
    name: str
    none_between: bool = True
    some_between: bool = False
    several: bool = False
    is_entrypoint: bool = False

    def reads(self, before: str, word: str) -> bool:
        """Whether it reads the word as a program. ``before``: the word before it."""
        option = self.option
        by_option = option.joined.match(word) or (
            option.before.fullmatch(before) and re.match(option.text, word, re.DOTALL)
        )
        return bool(
            self.several
            or (by_option and (option.words or self.none_between or self.is_entrypoint))
            or (option.words == "first" and self._is_first(before, word))
            or (option.words == "others" and self.some_between)
        )

    def _is_first(self, before: str, word: str) -> bool:
        """Whether the word is the first one that is neither an option nor the argument of one."""
        return self.none_between and not word.startswith("-") and not re.fullmatch(self.option.leading, before)

    def passes(self, before: str, word: str) -> None:
        """Go on behind the word."""
        option = self.option
        if re.fullmatch(option.several, word, re.DOTALL):
            self.several = True
        elif re.match(option.ends, word):
            self.several = False
        if re.match(option.given, word, re.DOTALL):
            self.none_between = False
        elif not word.startswith("-") and not re.fullmatch(option.leading, before):
            self.some_between = True
            self.none_between &= not word or word.startswith("${")  # `sed -i "" s/a/b/`; a value may be an option


def _of_interpreters(words: Sequence[str], known_ones: Mapping[str, _Option]) -> Iterator[tuple[int, str]]:
    seen: dict[str, _Seen] = {}
    for at, word in enumerate(words):
        for one in seen.values():
            if one.reads(words[at - 1], word):
                yield at, one.name
            one.passes(words[at - 1], word)
        name = name_of_program(word)
        for known, option in known_ones.items():
            if re.fullmatch(known, name, re.IGNORECASE):
                one = seen.setdefault(known, _Seen(option, name.lower()))
                one.none_between = True
                one.is_entrypoint |= _is_entrypoint(words, at)


def _of_bcp(words: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield the places of the queries that bcp exports, as in `bcp "SELECT ..." queryout FILE`."""
    for at, word in enumerate(words[2:]):
        if word.lower() == "queryout" and re.fullmatch(r"bcp(\.exe)?", name_of_program(words[at]), re.IGNORECASE):
            yield at + 1, "bcp"
