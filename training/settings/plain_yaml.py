"""YAML of unknown origin as plain data, within limits. No torch, and no pydantic: what watches runs starts fast.

Every YAML text of the project is read here: settings, values on the command line, the config.yaml of a run.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.resolver import Resolver

from training.errors import ConfigError
from training.storage.file_formats import JSON, TEXT, YAML, FileFormat, format_of
from training.storage.json_files import read_bytes

MOST_BYTES = 2**20
"""Size of the largest file of settings; all settings of a run have three kilobytes."""
MOST_LEVELS = 20
"""Levels of nesting."""
MOST_VALUES = 20_000
"""Values of a document, counting what each alias stands for."""
_TAG = "tag:yaml.org,2002:"
_TAGS = {
    yaml.ScalarEvent: ("null", "bool", "int", "float", "str"),
    yaml.SequenceStartEvent: ("seq",),
    yaml.MappingStartEvent: ("map",),
}


def parse_yaml(text: str) -> Any:
    """Return the value in a YAML text: texts, numbers, truth values, None, and lists and mappings of them.

    Raises:
        ValueError: it is no YAML, or not plain, or beyond the limits; one line that says where.
    """
    return parse_with_templates(text)[0]


def parse_with_templates(text: str) -> tuple[Any, frozenset[str]]:
    """Return the value in a YAML text, and its top-level keys whose mappings stand elsewhere too (`<<: *base`).

    Raises:
        ValueError: see `parse_yaml`.
    """
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        templates = frozenset(_templates(node)) if "*" in text else frozenset()
        return None if node is None else loader.construct_document(node), templates
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ValueError(f"not valid YAML{at}: {problem}") from error
    finally:
        if loader is not None:
            loader.dispose()


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; an empty file is an empty mapping.

    Raises:
        UserError: missing, no regular file, too large, not UTF-8, not YAML, or not a mapping.
    """
    return read_document(path)[0]


def read_document(path: Path) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the mapping in a YAML file, and its keys whose mappings stand elsewhere in it too."""
    try:
        document, templates = parse_with_templates(read_bytes(path, MOST_BYTES).decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: the config file cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        what = f"not UTF-8 text (byte {error.start}); save the file as UTF-8"
        raise ConfigError(f"{path}: {_other_format(path) or what}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {_other_format(path, but=(JSON, TEXT)) or error}") from error
    if document is None:
        return {}, templates
    if not isinstance(document, dict):
        what = f"a config file maps settings to values, this one is a {type(document).__name__}"
        raise ConfigError(f"{path}: {_other_format(path) or what}")
    return document, templates


def _other_format(path: Path, but: Container[FileFormat | None] = (JSON,)) -> str:
    """Say which other format a file has; empty: it may be meant as YAML, or has one that is left out (`but`)."""
    found = format_of(path)
    return "" if found in (None, YAML) or found in but else f"{found}; a config file maps settings to values in YAML"


class _PythonParser(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser):
    """The parser where PyYAML was built without the library libyaml."""

    def __init__(self, text: str) -> None:
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)


_Parser: Any = _PythonParser
if yaml.__with_libyaml__:
    _Parser = yaml.cyaml.CParser  # type: ignore[attr-defined]  # three times as fast


class _Loader(Composer, _Parser, SafeConstructor, Resolver):  # type: ignore[misc]
    """A loader of plain data with limits.

    It refuses nesting without end, aliases that multiply, tags beyond the plain ones, and a key given twice, of which
    PyYAML would silently keep the last. A date is a text, since no setting is a date, and so is `=`.
    """

    def __init__(self, text: str) -> None:
        _Parser.__init__(self, text)
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
        self._counts = [0]  # values so far in each node that is being composed, the document first
        self._sizes: dict[str, int] = {}  # of whole nodes, by anchor

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self._sizes:
                raise _refusal(f"*{event.anchor} stands within itself", event)
            self._counts.append(self._sizes.get(str(event.anchor), 0))
        else:
            if len(self._counts) > MOST_LEVELS:
                raise _refusal(f"nested more than {MOST_LEVELS} levels deep", event)
            self._check_tag(event)
            self._counts.append(1)
        node = super().compose_node(parent, index)
        size = self._counts.pop()
        self._counts[-1] += size
        if self._counts[-1] > MOST_VALUES:
            raise _refusal(f"more than {MOST_VALUES:,} values, counting what each alias stands for", event)
        if event.anchor is not None:
            self._sizes[event.anchor] = size
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise _refusal(f"key {shortened(key.value)} is given twice", key)
                seen.add((key.tag, key.value))
        return node

    def _check_tag(self, event: Any) -> None:
        if event.tag in (None, "!"):
            return
        name = event.tag.removeprefix(_TAG)
        if name not in _TAGS[type(event)]:
            raise _refusal(f"the tag {shortened(name)} does not belong to plain data; take it out", event)
        resolver: Any = super()
        is_checked = name in ("null", "bool", "int")  # the constructors of the others refuse a wrong text themselves
        if is_checked and resolver.resolve(yaml.ScalarNode, event.value, (True, False)) != event.tag:
            raise _refusal(f"{shortened(event.value)} is no {name}", event)


def _construct_number(loader: _Loader, node: Any) -> Any:
    try:
        return SafeConstructor.yaml_constructors[node.tag](loader, node)
    except (ValueError, IndexError) as error:  # such as a whole number of 5,000 digits
        raise _refusal(f"{shortened(node.value)} is no number that can be read", node) from error


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if tag not in (f"{_TAG}timestamp", f"{_TAG}value")]
    for first, forms in Resolver.yaml_implicit_resolvers.items()
}
for _kind in ("int", "float"):
    _Loader.add_constructor(f"{_TAG}{_kind}", _construct_number)


def _refusal(problem: str, place: Any) -> ConstructorError:
    return ConstructorError(None, None, problem, place.start_mark)


def shortened(text: str, longest: int = 40) -> str:
    """Return a text in quotes, of a long one the beginning."""
    return repr(text) if len(text) <= longest else f"{text[:longest]!r}… ({len(text):,} characters)"


def _templates(root: Any) -> Iterator[str]:
    """Yield the top-level keys whose mappings stand in other places of the document too."""
    waiting, seen, shared = [root], set(), set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            shared.add(id(node))
            continue
        seen.add(id(node))
        if isinstance(node, yaml.CollectionNode):
            is_mapping = isinstance(node, yaml.MappingNode)
            waiting += [value for _, value in node.value] if is_mapping else node.value
    if isinstance(root, yaml.MappingNode):
        yield from (k.value for k, v in root.value if isinstance(v, yaml.MappingNode) and id(v) in shared)
