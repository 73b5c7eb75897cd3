"""Fonts of pictures: each script in a font that has it, nothing as a box, and advice where a font is missing."""

from __future__ import annotations

from collections.abc import Sequence

from tools.figures.fonts import LATIN, Typeface


def test_without_fonts_nothing_is_drawn_as_a_box_and_the_packages_are_named() -> None:
    face = Typeface(chinese=(), japanese=(), korean=(), emoji=())
    assert face.families == [LATIN]
    assert face.text("run 运行 かな 한글 🦄 é → \x1b") == "run ?? ?? ?? ? é → \\x1b"
    advice = " ".join(face.advice())
    assert "apt install fonts-noto-cjk" in advice
    assert "apt install fonts-symbola" in advice


def test_a_name_that_cannot_be_drawn_is_numbered_and_the_number_is_told() -> None:
    face = Typeface(chinese=(), japanese=(), korean=(), emoji=())
    assert [face.name(name) for name in ("运行", "run", "训练", "运行")] == ["name 1", "run", "name 2", "name 1"]
    assert "in the figure, name 2 is 训练" in face.advice()


def test_with_its_fonts_every_script_is_drawn() -> None:
    face = Typeface()
    wanted: Sequence[tuple[bool, str]] = [
        (len(face.families) > 1, "运行损失かなカナ한글"),
        ("Symbola" in face.families, "🚀🦄"),
    ]
    for has_font, text in wanted:
        assert not has_font or face.text(text) == text
    assert face.text("한글") == face.text("한글".encode().decode()), "composed"
