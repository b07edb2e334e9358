"""Reading YAML 1.2 (and so JSON) with the line of every value, and writing it.

Words such as ``on``, ``no`` and ``06:30`` are text, and so is a number in a spelling other than the plain one (``010``,
``0x1F``), because what it stands for is a matter of dialect. The keys of a mapping are always text.
"""

import re
from dataclasses import dataclass, field
from io import StringIO
from typing import TYPE_CHECKING, Any, NamedTuple

from jobfac.definitions.problems import DefinitionError, Path, Problem

if TYPE_CHECKING:
    from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

ALIASED = 500_000
"""Values that the aliases of a file may stand for, all together: aliases of aliases multiply."""

MERGED = 1_000
"""Mappings that one mapping may merge, directly and through what those merge."""

DEEP = 100
"""Levels of lists and mappings inside each other, aliases followed."""

BRACKETS = 500
"""Brackets that a file may have open at once: more than ``DEEP``, since those in plain text are counted, too."""

_PREFIX = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})", re.ASCII)
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)?\.?[0-9]*([eE][-+]?[0-9]+)?", re.ASCII)


@dataclass(frozen=True)
class Document:
    """The value of a file, made of dicts with text keys, lists, text, numbers, booleans and None."""

    file: str | None
    value: Any
    root: "Node | None"

    def line(self, path: Path) -> int | None:
        """The line, from 1, of the key or list entry at ``path``, or of the nearest thing around it that is there."""
        node, line = self.root, None
        for part in path:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return line


def read_document(text: str, file: str | None = None) -> Document:
    """The document in ``text``. ``file`` is its name in messages.

    Raises ``DefinitionError`` where the text is not YAML, gives a key twice or uses a tag of its own, or where its
    aliases stand for more than a factory can hold.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError
    from ruamel.yaml.reader import ReaderError

    if _open_brackets(text) > BRACKETS:  # the scanner's time grows with the square of their number
        raise DefinitionError([Problem("not valid YAML: it is nested too deeply", file=file)])
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(str(part) for part in (error.context, error.problem) if part)
        if "cannot start any token" in said:
            said += "; indent with spaces" if "'\\t'" in said else "; put the text in quotes"
        raise DefinitionError([Problem(f"not valid YAML: {said}", file=file, line=mark and mark.line + 1)]) from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"not valid YAML: the character U+{int(error.character):04X} is not allowed"
        raise DefinitionError([Problem(message, file=file, line=line)]) from error
    except RecursionError as error:
        raise DefinitionError([Problem("not valid YAML: it is nested too deeply", file=file)]) from error
    reader = _Reader(file)
    value = reader.read(root) if root is not None else None
    if reader.problems:
        raise DefinitionError(reader.problems)
    return Document(file, value, root)


def _open_brackets(text: str) -> int:
    """How many brackets and braces are open at once at most, outside of double quotes; what other texts hold counts."""
    depth = most = 0
    for found in re.finditer(r'"(?:\\.|[^"\\])*"|[][{}]', text):
        if found[0] in "[{":
            depth += 1
            most = max(most, depth)
        elif found[0] in "]}":
            depth = max(0, depth - 1)
    return most


def write_document(value: Any) -> str:
    """YAML that ``read_document`` reads as ``value``: innermost lists and mappings on one line, scripts as blocks."""
    from ruamel.yaml import YAML
    from ruamel.yaml.nodes import ScalarNode
    from ruamel.yaml.representer import SafeRepresenter

    class Representer(SafeRepresenter):
        def text(self, text: str) -> ScalarNode:
            return self.represent_scalar(_PREFIX + "str", text, style=_style(text))

        def ignore_aliases(self, data: Any) -> bool:
            return True

    Representer.add_representer(str, Representer.text)
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = Representer
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # declared as None there
    yaml.width = 1_000_000
    stream = StringIO()
    yaml.dump(value, stream)
    return stream.getvalue()


def _style(text: str) -> str | None:
    """Blocks for scripts, escapes for what cannot be seen, the writer's own choice for the rest."""
    if not text.replace("\n", "").isprintable():
        return '"'
    if "\n" in text:
        return "|" if re.fullmatch(r"\S.*\S\n?", text, re.DOTALL) else '"'
    return "'" if text.startswith(("?", ":")) else None  # the writer would leave [?x] bare, which reads as a key


class _Measure(NamedTuple):
    """What a node stands for, aliases followed: values, levels, and mappings merged into it."""

    size: int = 1
    depth: int = 1
    merges: int = 1


@dataclass
class _Reader:
    file: str | None
    problems: list[Problem] = field(default_factory=list)
    values: dict[int, Any] = field(default_factory=dict)
    measures: dict[int, _Measure] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)
    aliased: int = 0

    def read(self, node: "Node") -> Any:
        """The value of a node; an alias gives the value that its anchor gave."""
        from ruamel.yaml.nodes import MappingNode, ScalarNode

        if id(node) in self.open:
            return self.complain(node, "an alias stands inside of what it refers to")
        if id(node) in self.values:
            self.aliased += self.measures[id(node)].size
            if self.aliased > ALIASED:
                raise self.refusal(node, f"the aliases up to here stand for more than {ALIASED:,} values")
        else:
            self.open.add(id(node))
            if isinstance(node, ScalarNode):
                self.values[id(node)] = self.scalar(node)
            elif isinstance(node, MappingNode):
                self.values[id(node)] = self.mapping(node)
            else:
                self.values[id(node)] = [self.read(entry) for entry in node.value]
            self.open.remove(id(node))
            self.measure(node)
        return self.values[id(node)]

    def measure(self, node: "Node") -> None:
        """Add up what a node stands for, from what is known of the nodes in it."""
        from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

        if isinstance(node, ScalarNode):
            self.measures[id(node)] = _Measure()
            return
        entries = [entry for _, entry in node.value] if isinstance(node, MappingNode) else node.value
        inside = [self.measures.get(id(entry), _Measure()) for entry in entries]
        merges = 1
        for key, entry in node.value if isinstance(node, MappingNode) else ():
            if str(key.tag) == _PREFIX + "merge":
                sources = entry.value if isinstance(entry, SequenceNode) else [entry]
                merges += sum(self.measures.get(id(source), _Measure()).merges for source in sources)
        found = _Measure(1 + sum(one.size for one in inside), 1 + max((one.depth for one in inside), default=0), merges)
        if found.depth > DEEP:
            raise self.refusal(node, f"lists and mappings are nested deeper than {DEEP} levels")
        if found.merges > MERGED:
            raise self.refusal(node, f"<< merges more than {MERGED:,} mappings, those that they merge included")
        self.measures[id(node)] = found

    def refusal(self, node: "Node", message: str) -> DefinitionError:
        return DefinitionError([Problem(message, file=self.file, line=node.start_mark.line + 1)])

    def scalar(self, node: "ScalarNode") -> Any:
        text, tag = str(node.value), str(node.tag)
        if not tag.startswith(_PREFIX) or tag == _PREFIX + "binary":
            return self.complain(node, f"the tag {tag.replace(_PREFIX, '!!')} cannot be used here; remove it")
        kind = tag.removeprefix(_PREFIX)
        if kind == "null":
            return None
        if kind == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if kind in ("int", "float") and _INTEGER.fullmatch(text):
            return int(text)
        if kind == "float" and _DECIMAL.fullmatch(text):
            return float(text)
        return _joined(text)

    def mapping(self, node: "MappingNode") -> dict[str, Any]:
        value: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, entry in node.value:
            if str(key.tag) == _PREFIX + "merge":
                merged = self.merged(entry) | merged
            elif not isinstance(key.value, str):
                self.complain(key, "a key must be text")
            elif (name := _joined(key.value)) in value:
                found = _child(node, name)
                first = found[0] if found else 0
                self.complain(key, f"the key '{name}' was given before, in line {first}; remove one of them")
            else:
                value[name] = self.read(entry)
        return merged | value

    def merged(self, node: "Node") -> dict[str, Any]:
        sources = self.read(node)
        result: dict[str, Any] = {}
        for source in sources if isinstance(sources, list) else [sources]:
            if isinstance(source, dict):
                result = source | result
            else:
                self.complain(node, "<< can only merge mappings")
        return result

    def complain(self, node: "Node", message: str) -> None:
        self.problems.append(Problem(message, file=self.file, line=node.start_mark.line + 1))


def _joined(text: str) -> str:
    """JSON may spell a character beyond U+FFFF as two escapes, which YAML leaves apart."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _child(node: "Node | None", part: str | int) -> "tuple[int, Node] | None":
    """The line and node of the entry ``part``, looked for in merged mappings last."""
    from ruamel.yaml.nodes import MappingNode, SequenceNode

    if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line + 1, node.value[part]
    if isinstance(node, MappingNode):
        for key, entry in node.value:
            if isinstance(key.value, str) and _joined(key.value) == part:
                return key.start_mark.line + 1, entry
        merges = [entry for key, entry in node.value if str(key.tag) == _PREFIX + "merge"]
        for source in merges:
            for mapping in source.value if isinstance(source, SequenceNode) else [source]:
                found = _child(mapping, part)
                if found is not None:
                    return found
    return None
