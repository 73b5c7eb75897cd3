"""The web page: its files, its texts in both languages, and what it does in a real browser against a real server."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from tools.server.page_routes import PAGE, page_files

ENGLISH_IN_CODE = re.compile(r'\bt\(\s*"((?:\\.|[^"\\])*)"')
"""A text that a person reads, in the page's code."""
ENTRY = re.compile(r'^  (?:"((?:\\.|[^"\\])*)"|(\w+)):\s*"((?:\\.|[^"\\])*)",$', re.MULTILINE)
FIELD = re.compile(r"\{(\w+)\}")


def own_scripts() -> dict[str, str]:
    paths = [*PAGE.glob("*.js"), *PAGE.glob("views/*.js")]
    return {path.relative_to(PAGE).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def chinese_texts() -> dict[str, str]:
    return {quoted or word: chinese for quoted, word, chinese in ENTRY.findall(own_scripts()["texts.js"])}


def test_every_text_has_both_languages() -> None:
    code = "".join(text for name, text in own_scripts().items() if name != "texts.js")
    used = set(ENGLISH_IN_CODE.findall(code))
    chinese = chinese_texts()
    assert len(used) > 200
    assert used - chinese.keys() == set()
    assert chinese.keys() - used == set(), "left over"
    for english, text in chinese.items():
        assert sorted(FIELD.findall(english)) == sorted(FIELD.findall(text)), english
        assert text


def test_texts_are_looked_up_by_a_literal() -> None:
    """A text that is put together at run time could not be found in the table."""
    for name, text in own_scripts().items():
        assert not re.findall(r'[^\w.]t\((?!\s*"|english)', text), name


def test_server_text_is_never_markup() -> None:
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|cssText|https?://"
    )
    for name, text in own_scripts().items():
        found = set(forbidden.findall(text.replace("http://www.w3.org/2000/svg", "")))
        assert found == set(), name
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]* src=)|style=|\son\w+=|https?://", html)


def test_files_that_are_served() -> None:
    files = page_files()
    assert {"index.html", "page.css", "main.js", "vendor/uplot/uPlot.esm.js"} <= files.keys()
    assert all("text" in file.media_type or file.media_type == "image/svg+xml" for file in files.values())
    for name in re.findall(r'(?:src|href)="/static/([^"]+)"', files["index.html"].content.decode()):
        assert name in files
    for name, text in own_scripts().items():
        for imported in re.findall(r'from "(\.[^"]+)"', text):
            path = ((PAGE / name).parent / imported).resolve()
            assert path.relative_to(PAGE.resolve()).as_posix() in files, (name, imported)


def test_vendored_files_are_those_of_the_package() -> None:
    """Their sums are those of `npm pack uplot@1.6.32`, and the licence is beside them."""
    sums = {
        "uPlot.esm.js": "5dd9b3281aa64b461b42d9945f6adb2649d346502b12281a9ae0d46599a80eba",
        "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    }
    vendor: Path = PAGE / "vendor" / "uplot"
    assert {name: hashlib.sha256((vendor / name).read_bytes()).hexdigest() for name in sums} == sums
    assert "MIT License" in (vendor / "LICENSE").read_text(encoding="utf-8")
