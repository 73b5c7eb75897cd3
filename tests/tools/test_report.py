"""The report of a run as one HTML file: what it shows, that it acts on nothing, and what is refused."""

from __future__ import annotations

import base64
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support.recorded_runs import RecordedRun
from tests.support.sample_pictures import sharper
from tools import report
from tools.server.report.markup import tag
from tools.server.report.page import BEGINNING, POLICY, report_html
from training.errors import UserError

BEGUN = 1_800_000_000.0
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u202e\ud800\x1b[31m"


class Elements(HTMLParser):
    """Names and attributes of all elements of a document, and its text."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 3,000 updates, of which one loss is not finite, that was resumed and finished."""

    def loss(step: int) -> float:
        return math.nan if step == 1234 else 4.0 * math.exp(-step / 800) + 0.1

    path = tmp_path_factory.mktemp("runs") / "reported"
    run = RecordedRun(
        path, start=BEGUN, total_steps=3000, steps_per_epoch=500, loss=loss, validation=lambda epoch: 2.0 / epoch
    )
    run.train(1000).draw(sharper(0.4)).train(500).draw(sharper(0.6)).resume(1400).train()
    run.reporter.warning("the disk is slow")
    run.draw(sharper(1.0))
    run.reporter.conclusion({"certificate": {"rows": 7, "cut": {"rows": 0}}}, ["12 + 34 = ? → 46  (right)"])
    run.finish().flush()
    return path


def test_document_shows_the_run(run_dir: Path) -> None:
    found = Elements(report_html(run_dir))
    for shown in (
        "reported", "finished", "3,000 / 3,000", "not finite: 1", "the disk is slow", "12 + 34 = ? → 46  (right)",
        "certificate rows", "certificate cut rows", "model.attention", "autopoietic", "perplexity", "gradient norm",
    ):  # fmt: skip
        assert shown in found.text, shown
    assert found.names.count("svg") >= 5
    classes = [value for name, value in found.attributes if name == "class"]
    assert classes.count("cross") == 1  # the loss; an update's other figures were finite
    assert "resumed" in classes
    assert "held" in classes


def test_samples_are_in_the_document_and_only_those_that_count(run_dir: Path) -> None:
    found = Elements(report_html(run_dir))
    pictures = [value for name, value in found.attributes if name == "src"]
    wanted = [base64.b64encode(sharper(share)).decode() for share in (1.0, 0.4)]
    assert pictures == [f"data:image/png;base64,{content}" for content in wanted]
    assert "step 1,000" in found.text
    (run_dir / "samples" / "step_001000.png").write_bytes(b"<script>")
    assert len([name for name in Elements(report_html(run_dir)).names if name == "img"]) == 1


def test_each_extreme_is_in_the_curve(tmp_path: Path) -> None:
    """A spike of one update in 20,000 is drawn, though a point stands for many updates."""
    spiked = RecordedRun(
        tmp_path / "run", start=BEGUN, total_steps=20_000, steps_per_epoch=1000,
        loss=lambda step: 900.0 if step == 7777 else 1.0 + 1e-5 * step,
    ).train().finish().flush()  # fmt: skip
    ticks = re.findall(r'text-anchor="end">([\d.,]+)<', report_html(spiked.path).partition("</svg>")[0])
    assert max(float(tick.replace(",", "")) for tick in ticks) >= 500


@pytest.mark.parametrize(("language", "words"), [("zh", "梯度范数"), ("both", "梯度范数 gradient norm")])
def test_other_languages(run_dir: Path, language: str, words: str) -> None:
    document = report_html(run_dir, "zh" if language == "zh" else "both")
    assert words in document
    assert ('lang="zh-CN"' in document) == (language == "zh")


def test_hostile_record_is_text(tmp_path: Path) -> None:
    """Names, settings, reasons, warnings and certificates with markup, escape sequences and half characters."""
    path = tmp_path / "hostile"
    run = RecordedRun(path, start=BEGUN, settings={"data": {HOSTILE: HOSTILE}}, backend=HOSTILE).train(20)
    run.reporter.warning(HOSTILE)
    run.reporter.conclusion({"packing": {HOSTILE: [HOSTILE, math.inf]}}, [HOSTILE])
    run.reporter.run_failed(RuntimeError(HOSTILE))
    run.flush()
    log = path / "progress.jsonl"
    with log.open("a", encoding="ascii") as file:
        file.write(json.dumps({"event": "step", "step": 21, "loss": 1.0, HOSTILE: 3.0, "time": BEGUN}) + "\n")
    document = report_html(path, name=HOSTILE)
    document.encode()  # no half of a surrogate pair is left
    found = Elements(document)
    assert not {"script", "img", "iframe", "link", "object"} & set(found.names)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name in ("src", "href", "style")]
    assert "\u202e" not in document
    assert "\x1b" not in document
    assert "alert(1)" in found.text


def test_nothing_is_loaded_from_elsewhere(run_dir: Path) -> None:
    document = report_html(run_dir)
    assert document.startswith(BEGINNING)
    assert f'http-equiv="Content-Security-Policy" content="{POLICY}"'.replace("'", "&#x27;") in document
    assert not re.search(r"https?://|@import|url\(", document)


def test_tag_escapes() -> None:
    assert tag("a", "<b>", title='"x"') == '<a title="&quot;x&quot;">&lt;b&gt;</a>'
    assert tag("p", [tag("b", 1), None, "&"], class_="c", hidden=False) == '<p class="c"><b>1</b>&amp;</p>'


# -- the command ---------------------------------------------------------------------------------------------------


def test_command_writes_into_the_run(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.run([str(run_dir)]) == 0
    first = run_dir / "report.html"
    assert first.read_text(encoding="utf-8").startswith(BEGINNING)
    assert capsys.readouterr().out == f"saved   {first}\n"
    assert report.run([str(run_dir), "--lang", "zh"]) == 0  # an earlier report is replaced
    assert "梯度范数" in first.read_text(encoding="utf-8")


def test_unusable_input(run_dir: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.html"
    own.write_text("<!doctype html><p>my page", encoding="utf-8")
    for arguments, line in (
        ([str(tmp_path / "none")], "there is no such directory; give a run directory"),
        ([str(tmp_path)], "no run has recorded anything here; give a run directory"),
        ([str(run_dir), "--output", str(own)], "this file is not an earlier output and would be lost"),
        ([str(run_dir), "--output", str(tmp_path / "report.pdf")], "give a name that ends in .html or .htm"),
        ([str(run_dir), "--lang", "fr"], "unknown language"),
    ):
        with pytest.raises(UserError, match=re.escape(line)):
            report.run(arguments)
    assert own.read_text(encoding="utf-8").endswith("my page")
