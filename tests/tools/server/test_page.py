"""The web page: its files, its texts in both languages, and what it does in a real browser against a real server."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.support.recorded_runs import RecordedRun
from tests.support.sample_pictures import sharper
from tools.server.routes.page import PAGE, page_files
from training.experiments.jobs.job_queue import read_jobs
from training.experiments.store.annotations import read_annotations
from training.experiments.store.identity import run_id_of
from training.record.log import LOG_NAME, counted, read_events

ROOT = Path(__file__).resolve().parents[3]

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


# -- in a browser --------------------------------------------------------------------------------------------------


@dataclass
class Served:
    """A server in a process of its own, which can be killed and started again on the same port."""

    root: Path
    port: int = 0
    link: str = ""
    process: subprocess.Popen[str] | None = None

    def start(self) -> Served:
        """Start it, and wait until it says where it is."""
        command = [sys.executable, "tools/serve.py", "--root", str(self.root), "--port", str(self.port)]
        command += ["--data", str(self.root.parent / "data")]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/login\?token=\S+", line):
                self.port, self.link = int(found[1]), found[0]
                break
        assert self.link, "the server has not started"
        return self

    def kill(self) -> None:
        """End it without a chance to tidy up."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Visitor:
    """A page in a browser of its own language, which notes what goes wrong in it."""

    def __init__(self, context: BrowserContext, served: Served) -> None:
        self.context, self.served = context, served
        context.add_init_script(
            "window.violations = []; addEventListener('securitypolicyviolation',"
            " (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));"
        )
        self.faults: list[str] = []
        self.page = self.open()
        self.page.goto(served.link)

    def open(self) -> Page:
        """Open one more tab."""
        page = self.context.new_page()
        page.set_default_timeout(300_000)  # a busy machine
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._note)
        return page

    def _note(self, message: ConsoleMessage) -> None:
        # The browser itself notes that a killed server does not answer, and each answer that is a problem.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.faults.append(message.text)

    def show(self, place: str, page: Page | None = None) -> Page:
        """Go to a place of the page."""
        shown = page or self.page
        shown.goto(f"{self.served.url}/#/{place}")
        return shown

    def check(self) -> None:
        """Fail where a script has failed or the content security policy was violated."""
        assert [page.evaluate("window.violations") for page in self.context.pages] == [[] for _ in self.context.pages]
        assert self.faults == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def live(folder: Path) -> RecordedRun:
    """A run that goes on when a test says so."""
    (folder / "runs").mkdir()
    run = RecordedRun(folder / "runs/live", start=time.time(), total_steps=400, validation=lambda epoch: 2.0 / epoch)
    return run.train(50).flush()


@pytest.fixture(scope="module")
def served(folder: Path, live: RecordedRun) -> Iterator[Served]:
    """A server of some recorded runs, and of a data set."""
    (folder / "data").mkdir()
    shutil.copy(ROOT / "data" / "HLBD_Hardcore_Full.json", folder / "data" / "sums.json")
    start = time.time() - 3600
    for n, name in enumerate(("sweep/low", "sweep/high")):
        run = RecordedRun(
            folder / "runs" / name, start=start + n, total_steps=60, validation=lambda epoch: 2.0 / epoch,
            settings={"optimizer": {"learning_rate": 10.0**-n}},
        )  # fmt: skip
        run.train().reporter.conclusion(
            {"stop": {"asked": 2, "ended": 1, "longest": 9}}, ["stop    1 of 2 answers", "  雨 → rain"]
        )
        run.finish().flush()
    found = Served(folder / "runs").start()
    yield found
    found.kill()


@pytest.fixture
def visitor(browser: Browser, served: Served) -> Iterator[Visitor]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US", color_scheme="dark")
    found = Visitor(context, served)
    yield found
    found.check()
    context.close()


def curve(page: Page, chart: str = "loss", series: int = 1) -> list[list[float]]:
    """Return the points of a chart as the page draws them."""
    points: list[list[float]] = page.evaluate(
        "([chart, series]) => document.querySelector(`figure[data-chart=${chart}]`)?.chart.points(series) ?? []",
        [chart, series],
    )
    return points


def wait_for_points(page: Page, count: int) -> None:
    page.wait_for_function(
        "(count) => (document.querySelector('figure[data-chart=loss]')?.chart.points(1).length ?? 0) >= count",
        arg=count,
    )


@pytest.mark.slow
def test_curve_survives_everything(visitor: Visitor, served: Served, live: RecordedRun) -> None:
    """Reload, a second tab, a killed server, a resumed run and an overwritten one: the record's points, each once."""
    path, run = live.path, live
    page = visitor.show(f"runs/{run_id_of(served.root, path)}")
    wait_for_points(page, 50)
    run.train(20).flush()
    wait_for_points(page, 70)

    other = visitor.show(f"runs/{run_id_of(served.root, path)}", visitor.open())
    page.reload()
    for tab in (page, other):
        wait_for_points(tab, 70)

    served.kill()
    run.train(30).flush()
    served.start()
    run.train(5).flush()
    for tab in (page, other):
        tab.bring_to_front()  # a tab that nobody sees holds no connection
        wait_for_points(tab, 105)
        assert curve(tab) == recorded(path)
        assert [step for step, _ in curve(tab, series=5)] == [float(step) for step in range(10, 101, 10)]

    run.resume(80).train(10).flush()  # what was done again counts once
    page.bring_to_front()
    page.wait_for_function("() => document.querySelector('figure[data-chart=loss]').chart.points(1).length === 90")
    assert curve(page) == recorded(path)

    shutil.rmtree(path)
    RecordedRun(path, start=time.time(), total_steps=400, loss=lambda step: 7.0).train(12).flush()
    page.wait_for_function("() => document.querySelector('figure[data-chart=loss]').chart.points(1).length === 12")
    assert curve(page) == [[float(step), 7.0] for step in range(1, 13)]


def recorded(path: Path) -> list[list[float]]:
    """Return the points that a run's record holds."""
    events = counted(read_events(path / LOG_NAME))
    return [[event["step"], event["loss"]] for event in events if event["event"] == "step"]


@pytest.mark.slow
def test_keyboard_alone(visitor: Visitor) -> None:
    """The views, the search, a run, its tabs, a chart and a dialog are reached and left without a mouse."""
    page = visitor.show("runs")
    keys = page.keyboard
    page.reload()
    page.wait_for_selector("[data-run]")
    keys.press("Tab")
    keys.press("Enter")  # the link past the head
    assert page.evaluate("document.activeElement.id") == "main"
    keys.press("/")
    keys.type("sweep/low")
    page.wait_for_function("() => document.querySelectorAll('[data-run]').length === 1")
    while not page.evaluate("document.activeElement.matches('a.name')"):
        keys.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    keys.press("Enter")
    wait_for_points(page, 60)
    for wanted in (".plot", "[role=tab]"):
        while not page.evaluate("(wanted) => document.activeElement.matches(wanted)", wanted):
            keys.press("Tab")
        if wanted == ".plot":
            keys.press("Home")
            assert "step 1" in (page.locator("figure[data-chart=loss] .plot").get_attribute("aria-label") or "")
            keys.press("+")
            page.wait_for_selector("#zoom:not([hidden])")
            keys.press("Escape")
            page.wait_for_selector("#zoom", state="hidden")
    keys.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-log"
    page.wait_for_function("() => document.querySelector('pre.log')?.textContent.includes('run_finished')")
    keys.press("ArrowRight")
    for said in ("rain", "1 of 2 answers end by themselves within 9 tokens"):  # samples, and certificates
        keys.press("ArrowRight")
        page.wait_for_function("(said) => document.querySelector('#tabpanel').innerText.includes(said)", arg=said)
    page.locator("[data-action=tags]").focus()
    keys.press("Enter")
    page.wait_for_selector("dialog[open]")
    keys.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    assert page.evaluate("document.activeElement.dataset.action") == "tags"


@pytest.mark.slow
def test_languages_themes_and_a_phone(visitor: Visitor) -> None:
    """Both choices are kept, every control has a name, and nothing is wider than a phone."""
    page = visitor.show("runs")
    page.click("#language")
    assert page.locator("h1").inner_text() == "训练"
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    page.reload()
    page.wait_for_selector("[data-run]")
    assert page.locator("h1").inner_text() == "训练"
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.set_viewport_size({"width": 360, "height": 740})
    run = page.locator("[data-run]").first.get_attribute("data-run")
    for place in ("runs", f"runs/{run}", "compare", "new", "machine"):
        visitor.show(place)
        page.wait_for_load_state("networkidle") if place == "machine" else page.wait_for_timeout(700)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), place
        nameless = page.evaluate(
            "[...document.querySelectorAll('button, a, input, select, textarea')].filter((one) => one.checkVisibility()"
            " && !(one.innerText.trim() || one.ariaLabel || one.labels?.length || one.title)).map((one) => one.id)"
        )
        assert nameless == [], place


@pytest.mark.slow
def test_samples_while_a_run_learns(visitor: Visitor, served: Served) -> None:
    """The newest picture is large; an earlier one can be chosen, and a new one comes by itself."""
    run = RecordedRun(served.root / "drawn", start=time.time(), total_steps=60)
    run.train(10).draw(sharper(0.1)).train(10).draw(sharper(0.5)).flush()
    page = visitor.show(f"runs/{run_id_of(served.root, run.path)}/samples")
    large = page.locator(".drawn > a img")
    large.wait_for()
    assert large.get_attribute("alt") == "Samples after step 20"
    page.wait_for_function(
        "() => [...document.querySelectorAll('.drawn img')].every((one) => one.naturalWidth === 256)"
    )
    page.get_by_role("button", name="Samples after step 10").click()
    assert large.get_attribute("alt") == "Samples after step 10"
    page.get_by_role("button", name="Samples after step 20").click()
    run.train(10).draw(sharper(1.0)).flush()
    page.wait_for_function("() => document.querySelector('.drawn > a img').alt === 'Samples after step 30'")
    bands = [{"sigma": 0.43, "loss": 0.5}, {"sigma": 7.2, "loss": 0.1}]
    run.reporter.conclusion({"ideal": {"samples": 2, "by_band": bands}}, ["12 + 34 = ? → 46  (right)"])
    run.finish().flush()
    page.wait_for_selector(".sample.right")
    assert page.locator("table th").all_inner_texts() == ["sigma", "loss"]
    assert page.locator("table td").all_inner_texts() == ["0.43", "0.5", "7.2", "0.1"]


@pytest.mark.slow
def test_tags_notes_and_archive(visitor: Visitor, served: Served) -> None:
    """They are written through the page, shown in it at once, and stand in the run's own directory."""
    page = visitor.show("runs")
    for name in ("sweep/low", "sweep/high"):
        page.get_by_label(f"Pick {name}").check()
    page.get_by_role("region", name="Picked runs").get_by_role("button", name="Tag").click()
    page.get_by_label("Tags, with commas").fill("paper, <b>bold</b>")
    page.get_by_role("button", name="Save").click()
    page.wait_for_function("() => document.querySelectorAll('[data-run] .tag').length === 4")
    assert page.locator("td b").count() == 0  # markup is text
    page.select_option("#tag", "paper")
    page.wait_for_function("() => document.querySelectorAll('[data-run]').length === 2")
    page.click("a.name >> text=sweep/high")
    page.click("[data-action=archive]")
    page.wait_for_function("() => document.querySelector('[data-action=archive]').innerText === 'Bring back'")
    assert read_annotations(served.root / "sweep" / "high").archived
    page.click("[data-action=archive]")
    page.wait_for_function("() => document.querySelector('[data-action=archive]').innerText === 'Archive'")


@pytest.mark.slow
def test_comparison(visitor: Visitor, served: Served) -> None:
    """Only what differs is listed; figures are chosen, and a run is added by its name."""
    low, high = (run_id_of(served.root, served.root / "sweep" / name) for name in ("low", "high"))
    page = visitor.show(f"compare?ids={low}")
    page.get_by_label("Add a run by its name").fill("sweep/high")
    page.click("#found button")
    page.wait_for_selector("#differing tbody tr")
    assert page.locator("#differing tbody th").all_inner_texts() == ["optimizer.learning_rate"]
    assert page.url.endswith(f"ids={low},{high}")
    for series in (1, 2):
        assert len(curve(page, series=series)) == 60
    page.get_by_role("button", name="accuracy").click()
    page.wait_for_selector("figure[data-chart=accuracy]")
    page.get_by_label("Take sweep/low out").click()
    page.wait_for_function("() => document.querySelectorAll('[role=listitem]').length === 1")


@pytest.mark.slow
def test_a_run_from_the_form_to_the_chat(visitor: Visitor, served: Served, tmp_path: Path) -> None:
    """A form is filled in; its run is watched, stopped, resumed, downloaded and talked to, all of them real."""
    page = visitor.show("new")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    given = {
        "model.d_model": "32", "model.num_layers": "1", "model.num_heads": "2", "model.d_ff": "64",
        "run.batch_size": "64", "run.max_steps": "240", "data.validation_split": "0.1",
    }  # fmt: skip
    page.fill("#name", "from-the-page")
    page.select_option("[data-key='data.datasets'] select", "sums.json")
    page.wait_for_selector("#preview .token.trained")
    for key, value in given.items():
        page.fill("#find", key)  # opens the section that it stands in
        page.fill(f"[data-key='{key}'] input", value)
    page.fill("#find", "learning rate, before the schedule")
    page.fill("[data-key='optimizer.learning_rate'] input", "fast")
    page.wait_for_selector("[data-key='optimizer.learning_rate'] .fault")
    assert "fast" in page.locator("[data-key='optimizer.learning_rate'] .fault").inner_text()
    assert page.locator("#start").is_disabled()
    page.fill("[data-key='optimizer.learning_rate'] input", "3e-3")
    page.wait_for_selector("#start:not([disabled])")
    page.wait_for_selector("#estimate .fits.yes")
    assert sum("/rows?" in url for url in sent) == 1, "a process reads the rows, which no other setting changes"
    page.click("#start")

    page.wait_for_selector("h1:has-text('from-the-page')")
    wait_for_points(page, 10)
    path = served.root / "from-the-page"
    process = next(job.process for job in read_jobs(served.root) if job.run_dir == path)
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)  # a browser on a busy machine may take longer than the whole training
    page.click("[data-action=stop]")
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    page.wait_for_selector(".state.stopping")
    os.kill(process.pid, signal.SIGCONT)
    page.wait_for_selector(".state.stopped")
    page.wait_for_selector("[data-action=resume]")
    stopped_at = int(recorded(path)[-1][0])
    assert stopped_at < 240
    assert curve(page) == recorded(path)

    page.click("#tab-checkpoints")
    with page.expect_download() as download:
        page.locator("td a", has_text="Download").first.click()
    download.value.save_as(tmp_path / "checkpoint.zip")
    with zipfile.ZipFile(tmp_path / "checkpoint.zip") as archive:
        assert archive.testzip() is None
        name = next(one for one in archive.namelist() if one.endswith("manifest.json"))
        assert archive.read(name) == (path / name).read_bytes()

    page.click("[data-action=resume]")
    page.wait_for_selector(".state.finished")
    wait_for_points(page, 240)
    assert curve(page) == recorded(path)
    assert [step for step, _ in curve(page)] == list(range(1, 241))
    assert page.evaluate("document.querySelector('figure[data-chart=loss]').chart.drawn.lines") == [stopped_at]

    before = recorded(path)
    chosen = f"checkpoint_step_{stopped_at}"
    page.click("#tab-checkpoints")
    page.click(f"[data-resume={chosen}]")
    dialog = page.get_by_role("dialog")
    assert "final_model" in dialog.inner_text(), "it says what is set aside"
    dialog.get_by_role("button", name="Resume").click()
    page.wait_for_function("() => !document.querySelector('.state.finished')")
    page.wait_for_selector(".state.finished")
    wait_for_points(page, 240)
    assert curve(page) == recorded(path) == before, "the same updates again, bit for bit"
    [branch] = path.glob("abandoned_at_step_*")
    assert branch.name == f"abandoned_at_step_{stopped_at}"
    assert (branch / "final_model").is_dir()

    page.click("#tab-chat")
    page.fill("#question", "88 - 43 = ?")
    page.keyboard.press("Enter")
    page.wait_for_selector(".said.assistant:not(.busy)")
    assert page.locator(".said.assistant").inner_text().strip()
    assert page.locator(".chat .fault").count() == 0
