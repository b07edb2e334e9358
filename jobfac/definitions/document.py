"""Read YAML 1.2 (and so JSON) with the line of every value, and write it.

Words such as ``on``, ``no`` and ``06:30`` are text. A number that is not in plain decimal form (``010``, ``0x1F``) is
text as well, because YAML versions read it differently, and so is ``-0``, which would lose its sign. The keys of a
mapping are always text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import StringIO
from typing import TYPE_CHECKING, Any, NamedTuple

from jobfac.control_characters import escape_quoted
from jobfac.definitions.problems import DefinitionError, Path, Problem

if TYPE_CHECKING:
    from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

MAX_ALIASED = 500_000
"""The maximum number of values to which all aliases of a file expand. Aliases of aliases multiply."""

MAX_MERGED = 1_000
"""The maximum number of mappings that one mapping merges, directly and indirectly."""

MAX_DEPTH = 100
"""The maximum number of nested lists and mappings, after aliases are expanded."""

MAX_BRACKETS = 500
"""The maximum number of open brackets in a file: more than ``MAX_DEPTH``, because those in plain text also count."""

_PREFIX = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*+)?\.?[0-9]*+([eE][-+]?[0-9]+)?", re.ASCII)


@dataclass(frozen=True)
class Document:
    """The value of a file: dicts with text keys, lists, text, numbers, booleans and None. ``root``: its YAML node."""

    file: str | None
    value: Any
    root: "Node | None"

    def line(self, path: Path) -> int | None:
        """Return the line, from 1, of the key or list entry at ``path``, or of the nearest existing parent."""
        node, line = self.root, None
        for part in path:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return line


def read_document(text: str, file: str | None = None) -> Document:
    """Parse a document. ``file``: its name in messages.

    Raises:
        DefinitionError: the text is not YAML, repeats a key, uses an application tag, or exceeds a limit.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError
    from ruamel.yaml.reader import ReaderError

    if _open_brackets(text) > MAX_BRACKETS:  # the time of the scanner grows with the square of this number
        raise DefinitionError([Problem("not valid YAML: it is nested too deeply", file=file)])
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = ", ".join(str(part) for part in (error.context, error.problem) if part)
        if "cannot start any token" in message:
            message += "; indent with spaces" if "'\\t'" in message else "; put the text in quotes"
        line = mark and mark.line + 1
        raise DefinitionError([Problem(f"not valid YAML: {message}", file=file, line=line)]) from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"not valid YAML: the character U+{int(error.character):04X} is not allowed"
        raise DefinitionError([Problem(message, file=file, line=line)]) from error
    except RecursionError as error:
        raise DefinitionError([Problem("not valid YAML: it is nested too deeply", file=file)]) from error
    except (ValueError, OverflowError) as error:  # of chr()
        raise DefinitionError([Problem("not valid YAML: an escape names no character", file=file)]) from error
    reader = _Reader(file)
    value = reader.read(root) if root is not None else None
    if reader.problems:
        raise DefinitionError(reader.problems)
    return Document(file, value, root)


_QUOTED = re.compile(r'"(?:\\.|[^"\\])*+("?)|[][{}]', re.DOTALL)
_BRACKET = re.compile(r"[][{}]")


def _open_brackets(text: str) -> int:
    """Return the maximum number of brackets and braces that are open at once, outside of double quotes."""
    depth = most = 0
    for found in _brackets(text):
        if found in "[{":
            depth += 1
            most = max(most, depth)
        else:
            depth = max(0, depth - 1)
    return most


def _brackets(text: str) -> Iterator[str]:
    for found in _QUOTED.finditer(text):
        if found[0][0] != '"':
            yield found[0]
        elif not found[1]:  # no quote ends this one or a later one, and a search from each of those takes hours
            yield from _BRACKET.findall(text, found.start())
            return


def write_document(value: Any) -> str:
    """Return YAML for a value: innermost lists and mappings on one line, texts with several lines as blocks."""
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
    return escape_quoted(stream.getvalue())


def _style(text: str) -> str | None:
    """Return the style of a text: a block for several lines, quotes with escapes for control characters; None: any."""
    if not text.replace("\n", "").isprintable():
        return '"'
    if "\n" in text:
        return "|" if re.fullmatch(r"\S.*\S\n?", text, re.DOTALL) else '"'
    return "'" if text.startswith(("?", ":")) else None  # ruamel writes [?x] without quotes, which reads as a key


class _Measure(NamedTuple):
    """The size of a node after aliases are expanded: its values, nesting levels, and merged mappings."""

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
        """Return the value of a node. An alias returns the value of its anchor."""
        from ruamel.yaml.nodes import MappingNode, ScalarNode

        if id(node) in self.open:
            return self.complain(node, "an alias must not be inside the value that it refers to")
        if id(node) in self.values:
            self.aliased += self.measures[id(node)].size
            if self.aliased > MAX_ALIASED:
                raise self.refusal(node, f"the aliases up to here expand to more than {MAX_ALIASED:,} values")
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
        """Compute the measure of a node from those of its children.

        Raises:
            DefinitionError: the node exceeds a limit.
        """
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
        size = 1 + sum(child.size for child in inside)
        depth = 1 + max((child.depth for child in inside), default=0)
        if depth > MAX_DEPTH:
            raise self.refusal(node, f"lists and mappings are nested deeper than {MAX_DEPTH} levels")
        if merges > MAX_MERGED:
            raise self.refusal(node, f"<< merges more than {MAX_MERGED:,} mappings, including those merged indirectly")
        self.measures[id(node)] = _Measure(size, depth, merges)

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
        joined = _joined(text)
        if joined.count("\ufffd") != text.count("\ufffd"):
            return self.complain(node, "a text has half of a character (a lone surrogate, such as \\ud800); correct it")
        return joined

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
    """Combine surrogate pairs: JSON may escape a character beyond U+FFFF as two, which YAML does not combine."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _child(node: "Node | None", part: str | int) -> "tuple[int, Node] | None":
    """Return the line and the node of the entry ``part``. Merged mappings are searched last."""
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
