"""The report of a run as one HTML document: its figures, curves, settings, certificates, samples, checkpoints.

It is self-contained: no script, no picture and no font from elsewhere, and a policy in its head that lets a browser
load none; the pictures of samples are in it. So it opens from a disk, can be sent to somebody, and a hostile record
cannot make it act.
"""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.figures.wording import figure
from tools.server.reading.history import HistoryCache
from tools.server.report.curves import NARROW, WIDE, Curve, curve_of, drawn
from tools.server.report.markup import Markup, joined, tag
from training.checkpoints.manifest import checkpoint_directories
from training.checkpoints.run_directory import FINAL_NAME, MODEL_DIRECTORY
from training.errors import UserError, printable
from training.experiments.store.rows import RunRow, as_it_is_now, live_state, read_run
from training.language.messages import Language, Message
from training.machine.units import as_duration, as_size
from training.record.alerts import Kind
from training.record.log import LOG_NAME, read_events, read_report
from training.record.run_state import State
from training.record.sample_pictures import SamplePicture, pictures_in, spread

BEGINNING = "<!doctype html>\n<!-- Report of a run, by tools/report.py -->"
"""First bytes of every report, by which an earlier one is known."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""Content security policy of the document; a server that sends it says the same in its header."""
STYLE = Path(__file__).with_name("report.css")
POINTS = 1000
CERTIFICATES = ("certificate", "packing", "merge", "stop")
"""Keys of a report under which a run says what it has proved."""
MOST_LINES = 400
"""Lines of what a run says of its model."""
MOST_EARLIER = 8
"""Earlier pictures of samples in a row."""
MOST_PICTURE_BYTES = 4 * 2**20
"""Largest picture of samples that the document takes in."""
MOST_ROWS = 2000
"""Rows of a table: a hostile record may have any number."""
_LATER = frozenset({"forward_ms", "backward_ms"})
"""Figures without a picture of their own."""
_FIRST = ("loss",)
_LAST = ("grad_norm", "learning_rate", "tokens_per_second", "samples_per_second")
_NAMES: Mapping[str, Message] = {
    "loss": Message("loss"),
    "accuracy": Message("accuracy"),
    "perplexity": Message("perplexity"),
    "grad_norm": Message("gradient norm"),
    "learning_rate": Message("learning rate"),
    "tokens_per_second": Message("tokens per second"),
    "samples_per_second": Message("samples per second"),
}
"""Title of a figure, by its name in a record."""


class ReportedRun:
    """What a report is made of.

    Args:
        run_dir: directory of the run.

    Raises:
        UserError: there is no record in it, or the disk refuses.
    """

    def __init__(self, run_dir: Path) -> None:
        whole = run_dir.absolute()
        try:
            found = read_run(whole.parent, whole.name)
            self.history = HistoryCache().history(whole, POINTS)
            self.report: Mapping[str, Any] = read_report(whole) or {}
            self.lines = list(_conclusion(whole / LOG_NAME))
        except FileNotFoundError as error:
            raise UserError(f"{run_dir}: no run has recorded anything here; give a run directory") from error
        except OSError as error:
            raise UserError(f"{run_dir}: cannot be read ({error.strerror}); try again") from error
        now = time.time()
        silent = max(0.0, now - found.row.updated_at) if found.row.updated_at is not None else 0.0
        state = State(found.row.state)
        if found.row.state == "running":
            state = live_state(whole, found.row.step, silent, found.pace.allowed_silence)
        self.row: RunRow = as_it_is_now(found.row, found.pace, state, now)
        self.settings, self.figures = found.settings, found.figures
        self.run_dir, self.made_at = whole, now


def _conclusion(log: Path) -> Iterator[str]:
    """Yield the lines that a run has said of its finished model; a run that was resumed says them again."""
    lines: list[str] = []
    try:
        for event in read_events(log):
            if event["event"] in ("run_started", "run_resumed"):
                lines = []
            elif event["event"] == "conclusion":
                lines += event.get("lines") or ()
    except FileNotFoundError:  # the log was taken away; the report has the figures
        return
    yield from lines[-MOST_LINES:]


def report_html(run_dir: Path, language: Language = "en", name: str | None = None) -> str:
    """Return a run's report as an HTML document.

    Args:
        run_dir: directory of the run.
        language: of the document's own words; `both`: Chinese and English side by side.
        name: of the run, as the reader knows it; None: that of its directory.

    Raises:
        UserError: there is no record, or the disk refuses.
    """
    return str(_Document(ReportedRun(run_dir), language, name).html())


class _Document:
    """The document of one run in one language."""

    def __init__(self, run: ReportedRun, language: Language, name: str | None) -> None:
        self._run, self._language = run, language
        self._name = printable(name if name is not None else run.row.name)

    def _word(self, message: str) -> str:
        if not isinstance(message, Message) or self._language == "en":
            return str(message)
        if self._language == "zh" or message.chinese == message:
            return message.chinese
        return f"{message.chinese} {message}"

    def html(self) -> Markup:
        """Return the whole document."""
        sections = [
            self._head(), self._curves(), self._samples(), self._conclusion(), self._certificates(),
            self._checkpoints(), self._epochs(), self._settings(), self._warnings(), self._facts(),
        ]  # fmt: skip
        made = datetime.fromtimestamp(self._run.made_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        foot = tag("p", self._word(Message("APT trainer, {time}", time=made)), class_="faint")
        head = tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="dark light"),
            tag("title", self._name),
            tag("style", Markup(STYLE.read_text(encoding="utf-8"))),
        )
        body = tag("body", tag("main", sections, foot))
        whole = tag("html", head, body, lang="zh-CN" if self._language == "zh" else "en")
        return Markup(f"{BEGINNING}\n{whole}\n")

    # -- parts -----------------------------------------------------------------------------------------------------

    def _section(self, title: str, *content: object) -> Markup:
        return tag("section", tag("h2", self._word(title)), content)

    def _terms(self, rows: Sequence[tuple[str, str]]) -> Markup:
        return tag("dl", [tag("div", tag("dt", self._word(name)), tag("dd", text)) for name, text in rows])

    def _table(self, heads: Sequence[str], rows: Sequence[Sequence[object]], numbers: frozenset[int]) -> Markup:
        style = ["number" if n in numbers else None for n in range(len(heads))]
        head = tag("tr", [tag("th", self._word(h), class_=s, scope="col") for h, s in zip(heads, style, strict=True)])
        body = [
            tag("tr", [tag("td", cell, class_=s) for cell, s in zip(row, style, strict=True)])
            for row in rows[:MOST_ROWS]
        ]
        left_out = len(rows) - MOST_ROWS
        more = tag("p", self._word(Message("and {count:,} more", count=left_out))) if left_out > 0 else None
        return joined([tag("div", tag("table", tag("thead", head), tag("tbody", body)), class_="scroll"), more])

    def _head(self) -> Markup:
        row = self._run.row
        steps = f"{row.step:,}" if row.total_steps is None else f"{row.step:,} / {row.total_steps:,}"
        rows: list[tuple[str, str]] = [
            (Message("step"), steps), (Message("epoch"), "–" if row.epoch is None else f"{row.epoch:,}"),
            (Message("loss"), _number(row.loss)), (Message("validation"), _number(row.val_loss)),
            (Message("best"), _number(row.best_loss)),
            *((_name_of(key), self._metric(key, value)) for key, value in row.metrics.items()),
            (Message("trained for"), as_duration(row.training_seconds)), (Message("begun"), _moment(row.started_at)),
            (Message("ended"), _moment(row.ended_at)), (Message("backend"), row.backend or "–"),
            (Message("device"), row.device or "–"), (Message("task"), row.task or "–"),
            (Message("model"), row.model or "–"),
        ]  # fmt: skip
        is_bad = row.state in (State.FAILED, State.UNREADABLE)
        return tag(
            "section",
            tag("h1", self._name, tag("span", self._word(Message(row.state)), class_=f"state {row.state}")),
            [tag("span", one, class_="tag") for one in row.tags],
            tag("p", row.reason, class_="bad" if is_bad else "faint") if row.reason else None,
            [
                tag("p", "⚠ ", alert["message_zh" if self._language == "zh" else "message"], class_="bad")
                for alert in row.alerts
                if alert["kind"] != Kind.FAILED or not row.reason  # that says the same
            ],
            tag("pre", row.note) if row.note else None,
            self._terms(rows),
        )  # fmt: skip

    def _metric(self, key: str, value: float | None) -> str:
        if value is not None and math.isfinite(value) and self._run.row.metric_forms.get(key) == "percent":
            return f"{value:.1%}"
        return _number(value)

    def _curves(self) -> Markup | None:
        keys = [key for key in self._run.history["keys"] if key not in _LATER]
        ordered = [*_FIRST, *(k for k in keys if k not in _FIRST + _LAST), *(k for k in _LAST if k in keys)]
        pictures: list[Markup] = []
        for key in ordered:
            is_plain = key == "learning_rate"
            is_share = self._run.row.metric_forms.get(key) == "percent"
            is_log = not is_share and not key.endswith("_per_second")
            curve = curve_of(self._run.history, key, is_log=is_log, is_smoothed=not is_plain, is_share=is_share)
            name = self._word(_name_of(key))
            if picture := drawn(curve, name, NARROW if pictures else WIDE):
                pictures.append(tag("figure", tag("h3", name), picture, self._keys(curve)))
        if not pictures:
            return None
        return self._section(Message("curves"), tag("div", pictures, class_="curves"))

    def _keys(self, curve: Curve) -> list[Markup]:
        keys = [("a", Message("each update"))]
        if curve.is_smoothed:
            keys.append(("b", Message("smoothed")))
        if curve.held:
            keys.append(("c", Message("validation")))
        if curve.not_finite:
            keys.append(("d", Message("not finite: {count:,}", count=len(curve.not_finite))))
        return [tag("span", self._word(word), class_=f"key {style}") for style, word in keys]

    def _samples(self) -> Markup | None:
        pictures = pictures_in(self._run.report.get("sample_files", ()))
        if not pictures:
            return None
        last = [picture for picture in pictures if picture.step == pictures[-1].step]
        earlier = spread([picture for picture in pictures if picture.step != pictures[-1].step], MOST_EARLIER)
        large = [found for picture in last if (found := self._picture(picture, "drawn")) is not None]
        small = [found for picture in earlier if (found := self._picture(picture, "earlier")) is not None]
        if not large and not small:
            return None
        row = tag("div", small, class_="film") if small else None
        return self._section(Message("samples"), tag("div", large, class_="drawn"), row)

    def _picture(self, picture: SamplePicture, style: str) -> Markup | None:
        """Return a picture of samples with its update; None: it is missing, no picture, or too large."""
        path = picture.path(self._run.run_dir)
        try:
            if path.is_symlink() or not path.is_file() or path.stat().st_size > MOST_PICTURE_BYTES:
                return None
            content = path.read_bytes()
        except OSError:  # it was taken away this very moment, and the report shows what is there
            return None
        if not content.startswith(b"\x89PNG"):
            return None
        word = self._word(Message("step {step:,}", step=picture.step))
        source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        return tag("figure", tag("img", src=source, alt=word), tag("figcaption", word, class_="faint"), class_=style)

    def _conclusion(self) -> Markup | None:
        if not self._run.lines:
            return None
        return self._section(Message("what the finished model does"), tag("pre", "\n".join(self._run.lines)))

    def _certificates(self) -> Markup | None:
        found = [(key, self._run.report[key]) for key in CERTIFICATES if self._run.report.get(key) is not None]
        if not found:
            return None
        rows = [(f"{key}{name}", text) for key, value in found for name, text in _flat(value)]
        return self._section(
            Message("certificates"), self._table((Message("figure"), Message("value")), rows, frozenset({1}))
        )

    def _checkpoints(self) -> Markup | None:
        sizes = {Path(str(one["path"])).name: one.get("bytes") for one in self._run.report.get("checkpoints", ())}
        rows = []
        for path in checkpoint_directories(self._run.run_dir):
            size = sizes.get(path.name)
            rows.append((tag("code", path.name), "–" if size is None else as_size(size)))
        for name in (FINAL_NAME, MODEL_DIRECTORY):
            path = self._run.run_dir / name
            if path.exists():
                rows.append((tag("code", name), as_size(path.stat().st_size) if path.is_file() else "–"))
        if not rows:
            return None
        return self._section(
            Message("checkpoints"), self._table((Message("name"), Message("size")), rows, frozenset({1}))
        )

    def _epochs(self) -> Markup | None:
        epochs = [one for one in self._run.report.get("epochs", ()) if isinstance(one, dict)]
        if not epochs:
            return None
        held = {one.get("epoch"): one.get("loss") for one in self._run.report.get("evaluations", ())}
        rows = [
            (f"{epoch:,}", f"{one.get('step') or 0:,}", _number(one.get("loss")), _number(held.get(epoch)))
            for one in epochs
            if (epoch := one["epoch"]) is not None
        ]
        heads = (Message("epoch"), Message("step"), Message("loss"), Message("validation"))
        return self._section(Message("epochs"), self._table(heads, rows, frozenset(range(4))))

    def _settings(self) -> Markup | None:
        if not self._run.settings:
            return None
        rows = [(tag("code", key), tag("code", _text(value))) for key, value in self._run.settings.items()]
        return self._section(
            Message("settings"), self._table((Message("setting"), Message("value")), rows, frozenset())
        )

    def _warnings(self) -> Markup | None:
        warnings = [one for one in self._run.report.get("warnings", ()) if isinstance(one, dict)]
        if not warnings:
            return None
        rows = [("–" if (step := one.get("step")) is None else f"{step:,}", one["message"]) for one in warnings]
        return self._section(
            Message("warnings"), self._table((Message("step"), Message("message")), rows, frozenset({0}))
        )

    def _facts(self) -> Markup | None:
        facts = [
            (key.replace("_", " "), _text(value))
            for key in ("run_id", "num_parameters", "num_train_samples", "vocab_size", "world_size", "data_fingerprint",
                        "curve_hash")
            if (value := self._run.report.get(key)) is not None
        ]  # fmt: skip
        return self._section(Message("facts"), self._terms(facts)) if facts else None


def _name_of(key: str) -> str:
    return _NAMES.get(key) or key.replace("_", " ")


def _number(value: object) -> str:
    if not isinstance(value, int | float):
        return "–"
    return figure(value) if math.isfinite(value) else "NaN"


def _moment(seconds: float | None) -> str:
    if seconds is None or not 0.0 < seconds < 1e11:
        return "–"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _flat(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield (name, value) of what a certificate says, however it is nested."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name} {key}")
    else:
        yield name, _text(value)
