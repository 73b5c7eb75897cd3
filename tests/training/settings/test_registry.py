"""A registry of parts: built-in ones, those of third parties, and classes of the user's own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from training.errors import ConfigError
from training.settings.registry import Entry, Registry

MODULE = "class Red:\n    name = 'red'\n    shade = 1\n\nclass Nameless:\n    shade = 1\n\nred = Red()\n"


@pytest.fixture
def colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[object]:
    """A registry of two built-in parts, and a module `paint` that lies in the current directory alone."""
    registry: Registry[object] = Registry(
        kind="colour",
        flag="--colour",
        group="apt_trainer.tests_of_the_registry",
        built_in={"blue": Entry("fractions:Fraction", "as the sky"), "green": Entry("decimal:Decimal", "as grass")},
        required=("__doc__",),
        accepts_classes=True,
    )
    (tmp_path / "paint.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "paint", raising=False)
    return registry


def needs(registry: Registry[object], *required: str, accepts_classes: bool = True) -> Registry[object]:
    """The same registry with other requirements."""
    return Registry(registry.kind, registry.flag, registry.group, registry.built_in, required, accepts_classes)


def test_a_part_is_imported_by_its_name(colours: Registry[object]) -> None:
    assert colours.load("blue").__name__ == "Fraction"
    assert colours.names() == ("blue", "green")
    assert "blue" in colours
    assert "fractions:Fraction" not in colours


def test_an_unknown_name_is_refused_with_the_choices_and_the_nearest(colours: Registry[object]) -> None:
    with pytest.raises(ConfigError) as refused:
        colours.load("bleu")
    assert str(refused.value) == ("--colour bleu: unknown colour; choose from blue, green; did you mean 'blue'?")


def test_a_part_of_a_third_party_is_known_but_never_replaces_a_built_in_one(
    colours: Registry[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {"blue": Entry("decimal:Decimal", "from package x"), "red": Entry("decimal:Decimal", "from package x")}
    monkeypatch.setattr(colours, "third_party", others)
    assert colours.names() == ("blue", "green", "red")
    assert "red" in colours
    assert colours.load("blue").__name__ == "Fraction"
    assert colours.load("red").__name__ == "Decimal"


@pytest.mark.parametrize(
    ("target", "reason"), [("no_such_module:Red", "No module named"), ("decimal:Red", "has no attribute 'Red'")]
)
def test_a_part_of_a_third_party_that_cannot_be_imported_is_named_with_its_package(
    target: str, reason: str, colours: Registry[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colours, "third_party", {"red": Entry(target, "from package apt-red")})
    with pytest.raises(ConfigError) as refused:
        colours.load("red")
    assert str(refused.value).startswith(f"--colour red: {target} (from package apt-red) cannot be imported: ")
    assert reason in str(refused.value)


def test_a_class_of_the_users_own_is_found_in_the_current_directory(colours: Registry[object]) -> None:
    found = needs(colours, "name", "shade").load("paint:Red")
    assert (found.__module__, found.__name__) == ("paint", "Red")
    assert sys.path[-1] == str(Path.cwd()), "last, so that a file of the user's shadows no library"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("paint:Nameless", "paint:Nameless is not a colour (it has no 'name')"),
        ("paint:red", "paint:red is not a colour (it is not a class)"),
        ("paint:Blue", "cannot be imported: module 'paint' has no attribute 'Blue'"),
        ("brush:Red", "cannot be imported: No module named 'brush'"),
        (":Red", "cannot be imported"),
        ("paint:", "cannot be imported"),
    ],
)
def test_what_is_no_such_part_is_refused_with_the_reason(name: str, reason: str, colours: Registry[object]) -> None:
    with pytest.raises(ConfigError) as refused:
        needs(colours, "name", "shade").load(name)
    assert str(refused.value).startswith(f"--colour {name}: ")
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_registry_without_classes_takes_names_only(colours: Registry[object]) -> None:
    with pytest.raises(ConfigError, match="--colour paint:Red: unknown colour; choose from blue, green"):
        needs(colours, "name", accepts_classes=False).load("paint:Red")
