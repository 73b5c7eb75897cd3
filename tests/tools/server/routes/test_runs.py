"""Runs over HTTP, from records as the reporter writes them: lists, figures, logs, events, checkpoints, pictures."""

from __future__ import annotations

import io
import json
import math
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.measured_surfaces import quadratic_surface
from tests.support.recorded_runs import RecordedRun
from tests.support.running_server import Answer, RunningServer, serving
from tests.support.sample_pictures import sharper
from tests.support.served_apps import SentEvent, sent_events
from tools.dashboard.layout import FURTHER, PANELS
from tools.dashboard.panels.theme import THEMES
from tools.landscape.surface import surface_path, write_surface
from tools.server.reading.history import HistoryCache
from tools.server.routes import pictures
from tools.server.routes.chat import reads_words
from tools.server.routes.checkpoints import CHUNK_BYTES, archive
from tools.server.routes.runs import _whole_characters
from training.checkpoints.manifest import write_manifest
from training.experiments.store.identity import run_id_of
from training.record.log import LOG_NAME, read_events

JOBS = "/api/training/jobs"


def spoilt(step: int) -> float:
    return math.nan if step == 7 else 4.0 / step


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some finished runs, two of them in a folder; one has checkpoints, a finished model and a conclusion."""
    made = tmp_path_factory.mktemp("served") / "runs"
    start = time.time() - 3600
    for n, name in enumerate(("first", "sweep/a", "sweep/b-雨")):
        settings: dict[str, dict[str, Any]] = {
            "run": {"seed": n},
            "report": {"report_batches": 10},
            "training": {"learning_rate": 10.0 ** -(n + 2)},
        }
        run = RecordedRun(
            made / name, start=start + n, loss=spoilt, validation=lambda epoch: 2.0 / epoch, settings=settings
        )
        run.train()
        if name == "first":
            for step in (50, 100):
                checkpoint = run.path / f"checkpoint_step_{step}"
                (checkpoint / "inner").mkdir(parents=True)
                (checkpoint / "weights.safetensors").write_bytes(bytes(range(256)) * 5000 * (step // 50))
                (checkpoint / "inner" / "facts.json").write_text('{"a": 1}', encoding="utf-8")
                write_manifest(checkpoint, step=step, kind="test", run_id="first", config_hash=None)
                run.reporter.checkpoint(checkpoint, step)
            (run.path / "final_model.pt").write_bytes(b"weights")
            run.draw(sharper(1.0)).draw(sharper(1.0))
            (run.path / "samples" / "step_000999.png").write_bytes(b"of another run")
            run.reporter.conclusion(
                {"stop": {"asked": 2, "ended": 1, "longest": 9}}, ["stop    1 of 2 answers", "  雨 → rain"]
            )
        run.finish()
    return made


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[RunningServer]:
    with serving(root) as running:
        yield running


def ids(server: RunningServer) -> dict[str, str]:
    return {job["name"]: job["id"] for job in server.get(JOBS).json["jobs"]}


def detail(answer: Answer) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    found: str = answer.json["detail"]
    return found


# -- lists and figures ---------------------------------------------------------------------------------------------


def test_the_list_has_all_runs_and_can_be_searched_filtered_sorted_and_cut(server: RunningServer, root: Path) -> None:
    def names(query: str) -> list[str]:
        return [job["name"] for job in server.get(f"{JOBS}?{query}").json["jobs"]]

    whole = server.get(JOBS).json
    assert whole["total"] == 3
    first = next(job for job in whole["jobs"] if job["name"] == "first")
    assert first["id"] == run_id_of(root, root / "first")
    assert (first["state"], first["step"], first["num_checkpoints"], first["job"]) == ("finished", 100, 2, None)
    assert len(first["sparkline"]) == 40
    assert names("search=sweep&sort=name") == ["sweep/a", "sweep/b-雨"]
    assert names("where=learning_rate%3C5e-3&sort=-learning_rate") == ["sweep/a", "sweep/b-雨"]
    assert names("sort=name&limit=1&offset=1") == ["sweep/a"]
    assert names("state=running&state=stalled") == []
    assert len(names("state=finished&state=failed")) == 3
    assert names("tag=none") == []
    assert server.get(f"{JOBS}?limit=1").json["total"] == 3


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("where=learning_rate%3C", "learning_rate<"),
        ("sort=no_such_thing", "no_such_thing"),
        ("limit=-1", "limit"),
        ("limit=1000000", "limit"),
        ("archived=maybe", "archived"),
    ],
)
def test_a_query_that_cannot_be_used_is_refused(server: RunningServer, query: str, said: str) -> None:
    answer = server.get(f"{JOBS}?{query}")
    assert answer.status == 422
    assert said in detail(answer)


@pytest.mark.parametrize("run_id", ["0" * 12, "0" * 11, "..", "%2e%2e%2fetc", "first", "G" * 12, "0" * 400])
@pytest.mark.parametrize(
    "part", ["", "/status", "/metrics/history", "/logs", "/events", "/checkpoints", "/pictures/loss"]
)
def test_an_id_that_no_run_has_is_not_found(server: RunningServer, run_id: str, part: str) -> None:
    answer = server.get(f"{JOBS}/{run_id}{part}")
    assert answer.status == 404
    detail(answer)


@pytest.mark.parametrize(
    ("family", "is_asked"), [("apt", True), ("huggingface", True), (None, True), ("mine:Family", True), ("unet", False)]
)
def test_a_model_that_reads_no_text_has_no_chat(family: str | None, is_asked: bool) -> None:
    assert reads_words(family) is is_asked


def test_one_run_with_settings_facts_and_figures(server: RunningServer) -> None:
    run_id = ids(server)["first"]
    run = server.get(f"{JOBS}/{run_id}").json
    assert run["settings"]["training.learning_rate"] == {"value": 0.01, "origin": None}
    assert run["facts"]["vocab_size"] == 50
    assert "curve" not in run["facts"]
    assert run["can_chat"] is True
    status = server.get(f"{JOBS}/{run_id}/status").json
    assert (status["job_id"], status["status"], status["step"], status["progress"]) == (run_id, "finished", 100, 1.0)
    metrics = server.get(f"{JOBS}/{run_id}/metrics").json
    assert metrics["val_loss"] == 0.2
    assert metrics["figures"]["loss"] == metrics["loss"] == 0.04
    speed = server.get(f"{JOBS}/{run_id}/throughput").json
    assert (speed["unit"], speed["per_second"], speed["seconds_per_step"]) == ("tokens", 1000.0, 1.0)


def test_the_history_is_that_of_the_log(server: RunningServer, root: Path) -> None:
    run_id = ids(server)["first"]
    found = server.get(f"{JOBS}/{run_id}/metrics/history?keys=loss,accuracy&points=50").json
    assert found == {"id": run_id, **HistoryCache().history(root / "first", 50, ["loss", "accuracy"])}
    assert found["nonfinite"]["loss"] == [7]
    assert set(found["series"]) == {"loss", "accuracy"}
    assert server.get(f"{JOBS}/{run_id}/metrics/history?points=1").status == 422
    assert server.get(f"{JOBS}/{run_id}/metrics/history?points=100000").status == 422


def test_certificates_and_samples(server: RunningServer) -> None:
    run_id = ids(server)["first"]
    [stop] = server.get(f"{JOBS}/{run_id}/certificates").json["certificates"]
    assert (stop["name"], stop["document"]) == ("stop", {"asked": 2, "ended": 1, "longest": 9})
    assert stop["lines"] == ["stop    1 of 2 answers end by themselves within 9 tokens"]
    samples = server.get(f"{JOBS}/{run_id}/samples").json
    assert samples["samples"] == ["stop    1 of 2 answers", "  雨 → rain"]
    other = ids(server)["sweep/a"]
    assert server.get(f"{JOBS}/{other}/samples").json == {"samples": [], "figures": {}, "pictures": []}
    assert server.get(f"{JOBS}/{other}/certificates").json == {"certificates": []}


def test_pictures_of_samples_are_sent_if_the_record_names_them(server: RunningServer, root: Path) -> None:
    run_id = ids(server)["first"]
    where = f"{JOBS}/{run_id}/samples"
    assert server.get(where).json["pictures"] == [{"step": 100, "name": "step_000100.png"}]
    sent = server.get(f"{where}/step_000100.png")
    assert (sent.status, sent.headers["content-type"], sent.body) == (200, "image/png", sharper(1.0))
    assert server.get(f"{where}/step_000100.png", headers={"If-None-Match": sent.headers["etag"]}).status == 304
    for name in ("step_000999.png", "..%2Fprogress.jsonl", "%2e%2e", "config.yaml", "x" * 90):
        assert server.get(f"{where}/{name}").status == 404, name
    path = root / "first" / "samples" / "step_000100.png"
    path.write_bytes(b"<script>alert(1)</script>")
    assert server.get(f"{where}/step_000100.png").status == 409
    path.unlink()
    path.symlink_to(root / "first" / "config.yaml")
    assert server.get(f"{where}/step_000100.png").status in (404, 503)
    path.unlink()
    assert server.get(f"{where}/step_000100.png").status == 404


def test_runs_are_compared(server: RunningServer, root: Path) -> None:
    by_name = ids(server)
    chosen = [by_name["first"], by_name["sweep/a"]]
    found = server.get(f"/api/training/compare?ids={','.join(chosen)}&points=50").json
    assert [(run["id"], run["name"]) for run in found["runs"]] == [(chosen[0], "first"), (chosen[1], "sweep/a")]
    assert found["settings"]["training.learning_rate"] == {chosen[0]: 0.01, chosen[1]: 0.001}
    assert "data.pairs" not in found["settings"]
    assert found["figures"]["val_loss"] == dict.fromkeys(chosen, 0.2)
    curve = found["curves"][chosen[0]]
    whole = HistoryCache().history(root / "first", 50)
    assert curve["series"]["loss"] == {"value": whole["series"]["loss"]["value"]}
    assert curve["evaluations"] == whole["evaluations"]
    assert (found["statistics"], bool(found["no_statistics"])) == ([], True)
    banded = server.get(f"/api/training/compare?ids={','.join(chosen)}&points=50&bands=true&keys=loss").json
    assert banded["curves"][chosen[0]]["series"] == {"loss": whole["series"]["loss"]}
    alone = server.get(f"/api/training/compare?ids={chosen[0]}").json
    assert (len(alone["runs"]), alone["settings"]) == (1, {})


def always(value: float) -> Callable[[int], float]:
    return lambda _: value


def test_runs_of_one_setting_and_several_seeds_are_pairs(tmp_path: Path) -> None:
    start = time.time() - 3600
    for seed in range(3):
        for n, rate in enumerate((0.1, 0.2)):
            settings: dict[str, dict[str, Any]] = {"run": {"seed": seed}, "training": {"learning_rate": rate}}
            final = 1.0 + n + 0.01 * seed * n
            path = tmp_path / f"rate{n}-seed{seed}"
            run = RecordedRun(path, start=start, settings=settings, validation=always(final))
            run.train().finish()
    with serving(tmp_path) as server:
        by_name = ids(server)
        chosen = ",".join(by_name[name] for name in sorted(by_name))
        found = server.get(f"/api/training/compare?ids={chosen}").json
    [paired] = found["statistics"]
    assert paired["variant"] == {"training.learning_rate": 0.2}
    assert paired["seeds"] == [0, 1, 2]
    assert paired["mean"] == pytest.approx(1.01)
    assert paired["more_than_the_spread"] is True


@pytest.mark.parametrize(
    ("chosen", "status"),
    [("", 422), (",", 422), ("first", 404), ("0" * 12, 404), (",".join(f"{n:012x}" for n in range(21)), 404)],
)
def test_what_cannot_be_compared_is_refused(server: RunningServer, chosen: str, status: int) -> None:
    answer = server.get(f"/api/training/compare?ids={chosen}")
    assert answer.status == status
    detail(answer)


def test_artifacts_are_named_and_no_path_is(server: RunningServer, root: Path) -> None:
    answer = server.get(f"{JOBS}/{ids(server)['first']}/artifacts")
    found = {one["name"]: one for one in answer.json["artifacts"]}
    assert {"checkpoint_step_50", "checkpoint_step_100", "final_model.pt"} <= set(found)
    assert found["checkpoint_step_100"]["kind"] == "checkpoint"
    assert str(root) not in answer.text


# -- the log -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [7, 100, 4096])
def test_the_log_comes_whole_in_pieces_of_any_size(server: RunningServer, root: Path, limit: int) -> None:
    run_id = ids(server)["sweep/b-雨"]
    content = (root / "sweep" / "b-雨" / LOG_NAME).read_text(encoding="utf-8")[: limit * 12]
    text, offset = "", 0
    while len(text) < len(content):
        piece = server.get(f"{JOBS}/{run_id}/logs?offset={offset}&limit={limit}").json
        assert (piece["offset"], piece["source"]) == (offset, "record")
        text, offset = text + piece["text"], piece["next_offset"]
    assert text.startswith(content)
    size = piece["size"]
    end = server.get(f"{JOBS}/{run_id}/logs?offset=-50").json
    assert end["next_offset"] == size
    assert server.get(f"{JOBS}/{run_id}/logs?offset={size + 5}").json["text"] == ""


def test_no_piece_holds_half_of_a_character() -> None:
    text = "a雨😀é"
    content = text.encode()
    for start in range(len(content)):
        for end in range(start + 1, len(content) + 1):
            whole, skipped = _whole_characters(content[start:end], is_end=end == len(content))
            assert content[start + skipped :].startswith(whole)
            assert whole.decode() in text


# -- annotations ---------------------------------------------------------------------------------------------------


def test_tags_note_and_archive_are_kept_in_the_run_directory(server: RunningServer, root: Path) -> None:
    run_id = ids(server)["sweep/a"]
    assert server.ask("PUT", f"{JOBS}/{run_id}/tags", {"tags": ["good", "baseline"]}).json["tags"] == [
        "baseline",
        "good",
    ]
    assert server.ask("PUT", f"{JOBS}/{run_id}/note", {"note": "雨"}).json["note"] == "雨"
    assert [job["id"] for job in server.get(f"{JOBS}?tag=good").json["jobs"]] == [run_id]
    kept = json.loads((root / "sweep" / "a" / "annotations.json").read_text(encoding="utf-8"))
    assert (kept["tags"], kept["note"]) == (["baseline", "good"], "雨")
    assert server.ask("PUT", f"{JOBS}/{run_id}/archive", {"archived": True}).json["archived"] is True
    assert run_id not in ids(server).values()
    assert [job["id"] for job in server.get(f"{JOBS}?archived=true").json["jobs"]] == [run_id]
    assert server.get(f"{JOBS}?archived=all").json["total"] == 3
    assert server.ask("PUT", f"{JOBS}/{run_id}/archive", {"archived": False}).json["archived"] is False
    assert server.ask("PUT", f"{JOBS}/{run_id}/tags", {"tags": ["a,b"]}).status == 422
    assert server.ask("PUT", f"{JOBS}/{run_id}/tags", {"tags": [], "path": "/etc"}).status == 422
    server.ask("PUT", f"{JOBS}/{run_id}/tags", {"tags": []})


# -- checkpoints ---------------------------------------------------------------------------------------------------


def test_checkpoints_are_listed_and_downloaded_whole(server: RunningServer, root: Path, tmp_path: Path) -> None:
    run_id = ids(server)["first"]
    listed = server.get(f"{JOBS}/{run_id}/checkpoints").json["checkpoints"]
    assert [(one["name"], one["kind"], one["step"]) for one in listed] == [
        ("final_model.pt", "model", None), ("checkpoint_step_100", "checkpoint", 100),
        ("checkpoint_step_50", "checkpoint", 50),
    ]  # fmt: skip
    for one in listed:
        answer = server.get(f"/api/training/checkpoints/{one['id']}/download")
        assert answer.status == 200
        assert f"first-{one['name']}.zip" in answer.headers["content-disposition"]
        with zipfile.ZipFile(io.BytesIO(answer.body)) as packed:
            assert packed.testzip() is None
            packed.extractall(tmp_path)
        source = root / "first" / one["name"]
        files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
        assert one["bytes"] == sum(path.stat().st_size for path in files)
        assert len(packed.namelist()) == len(files)
        for path in files:
            assert (tmp_path / path.relative_to(root / "first")).read_bytes() == path.read_bytes()


def test_an_archive_is_made_in_bounded_memory(tmp_path: Path) -> None:
    top = tmp_path / "checkpoint_step_1"
    top.mkdir()
    with (top / "weights").open("wb") as file:
        file.truncate(40 * CHUNK_BYTES)
    pieces = [len(piece) for piece in archive(tmp_path, top)]
    assert sum(pieces) > 40 * CHUNK_BYTES
    assert max(pieces) < CHUNK_BYTES + 4096


def test_links_lead_nowhere(server: RunningServer, root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    run, linked = root / "sweep" / "a", root / "linked"
    checkpoint = run / "checkpoint_step_7"
    checkpoint.mkdir()
    (checkpoint / "facts.json").write_text("{}", encoding="utf-8")
    (checkpoint / "secret").symlink_to(tmp_path / "secret")
    (run / "checkpoint_step_8").symlink_to(tmp_path)
    linked.symlink_to(run)
    try:
        run_id = ids(server)["sweep/a"]
        listed = server.get(f"{JOBS}/{run_id}/checkpoints").json["checkpoints"]
        assert [one["name"] for one in listed] == ["checkpoint_step_7"]
        answer = server.get(f"/api/training/checkpoints/{listed[0]['id']}/download")
        with zipfile.ZipFile(io.BytesIO(answer.body)) as packed:
            assert packed.namelist() == ["checkpoint_step_7/facts.json"]
        for name in ("checkpoint_step_8", "checkpoint_step_9", "config.yaml", "progress.jsonl", "..", "%2e%2e%2f"):
            assert server.get(f"/api/training/checkpoints/{run_id}-{name}/download").status == 404
        server.state.index.look(search=True)
        assert "linked" not in ids(server)
    finally:
        linked.unlink()
        (run / "checkpoint_step_8").unlink()
        shutil.rmtree(checkpoint)


# -- events --------------------------------------------------------------------------------------------------------


def follow(server: RunningServer, path: str, **headers: str) -> Iterator[SentEvent]:
    sent = {"Authorization": f"Bearer {server.state.token}", **headers}
    with httpx.stream("GET", f"http://127.0.0.1:{server.port}{path}", headers=sent, timeout=30) as response:
        assert response.status_code == 200, response.read()
        yield from (event for event in sent_events(response) if event is not None)


def test_history_and_events_meet_without_gap_and_twice_nothing(root: Path, server: RunningServer) -> None:
    run = RecordedRun(root / "live", start=time.time(), report_batches=1).train(5)
    try:
        server.state.index.look(search=True)
        run_id = ids(server)["live"]
        history = server.get(f"{JOBS}/{run_id}/metrics/history").json
        steps: list[int] = list(history["step"])
        stream = follow(server, f"{JOBS}/{run_id}/events?since={history['position']}")
        first = next(stream)
        assert (first.name, first.data["job_id"], first.identity) == ("state", run_id, None)
        run.train(3)
        last = ""
        for event in stream:
            if event.name == "step":
                steps.append(event.data["step"])
                last = event.identity or ""
            if steps[-1] == 8:
                break
        stream.close()  # type: ignore[attr-defined]  # it is a generator
        run.train(2).finish()
        for event in follow(server, f"{JOBS}/{run_id}/events?since={history['position']}", **{"Last-Event-ID": last}):
            if event.name == "step":
                steps.append(event.data["step"])
            if event.name == "run_finished":
                break
        assert steps == list(range(1, 11))
        whole = []
        for event in follow(server, f"{JOBS}/{run_id}/events"):
            if event.name != "state":
                whole.append(event.data)
            if event.name == "run_finished":
                break
        assert whole == list(read_events(run.path / LOG_NAME))
        stray = follow(server, f"{JOBS}/{run_id}/events", **{"Last-Event-ID": "of another server"})
        assert [next(stray).name for _ in range(3)] == ["state", "reset", "run_started"]
        answer = server.get(f"{JOBS}/{run_id}/events?since=nonsense")
        assert answer.status == 400
        assert "since='nonsense'" in detail(answer)
    finally:
        shutil.rmtree(root / "live")


def test_the_list_of_runs_as_events(root: Path, server: RunningServer) -> None:
    server.state.index.look(search=True)  # what the other tests have left
    stream = follow(server, "/api/events")
    first = next(stream)
    assert (first.name, first.data) == ("runs", {"changed": [], "removed": []})
    run = RecordedRun(root / "new", start=time.time(), report_batches=1).train(2)
    run_id = run_id_of(root, run.path)
    try:
        server.state.index.look(search=True)
        event = next(event for event in stream if event.data["changed"])
        assert [row["id"] for row in event.data["changed"]] == [run_id]
        assert event.data["changed"][0]["state"] in ("running", "starting", "stalled", "lost")
    finally:
        shutil.rmtree(run.path)
    server.state.index.look(search=True)
    removed = next(event for event in stream if event.data["removed"])
    assert removed.data == {"changed": [], "removed": [run_id]}
    stream.close()  # type: ignore[attr-defined]
    listed = server.get(JOBS).json["position"]
    newer = RecordedRun(root / "newer", start=time.time(), report_batches=1).train(2)
    try:
        server.state.index.look(search=True)
        [row] = next(follow(server, "/api/events", **{"Last-Event-ID": listed})).data["changed"]
        assert row["name"] == "newer"
    finally:
        shutil.rmtree(newer.path)
    server.state.index.look(search=True)
    again = next(follow(server, "/api/events", **{"Last-Event-ID": first.identity or ""}))
    assert again.name == "runs"
    assert set(again.data["removed"]) == {run_id, run_id_of(root, newer.path)}
    other = next(follow(server, "/api/events", **{"Last-Event-ID": "ffffffffffff-3"}))
    assert other.name == "reset"


def test_a_server_that_is_started_again_has_the_same_rows_curves_and_revises_nothing(root: Path) -> None:
    def seen(running: RunningServer) -> Any:
        rows = running.get(f"{JOBS}?sort=name&archived=all").json
        del rows["position"]  # each server counts changes from 0
        curves = [running.get(f"{JOBS}/{row['id']}/metrics/history").json for row in rows["jobs"]]
        return rows, curves

    copied = root.parent / "copied"
    shutil.copytree(root, copied, ignore=shutil.ignore_patterns(".server"))
    with serving(copied) as first:
        before = seen(first)
    with serving(copied) as second:
        assert seen(second) == before
    (copied / ".server" / "experiments.sqlite").unlink()
    with serving(copied) as third:
        assert seen(third) == before


def test_streams_end_with_the_server(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "runs" / "a", start=time.time(), report_batches=1).train(2)
    ended: list[str] = []
    with serving(run.path.parent) as running:
        started = threading.Barrier(3)

        def watch(path: str) -> None:
            stream = follow(running, path)
            next(stream)
            started.wait(30)
            for _ in stream:
                pass
            ended.append(path)

        run_id = ids(running)["a"]
        paths = [f"{JOBS}/{run_id}/events", "/api/events"]
        threads = [threading.Thread(target=watch, args=(path,), daemon=True) for path in paths]
        for thread in threads:
            thread.start()
        started.wait(30)
    for thread in threads:
        thread.join(30)
    assert sorted(ended) == sorted(paths)


# -- pictures ------------------------------------------------------------------------------------------------------


def test_the_names_of_pictures_are_those_of_the_dashboard() -> None:
    assert {*pictures.CURVES, *pictures.OF_LANDSCAPE} == {*PANELS, "terrain"}
    assert pictures.SAMPLES in FURTHER
    assert set(pictures.Theme.__args__) == set(THEMES)  # type: ignore[attr-defined]  # of a Literal


@pytest.mark.slow
def test_pictures_are_drawn_kept_and_drawn_again(server: RunningServer, root: Path) -> None:
    run_id = ids(server)["sweep/a"]
    where = f"{JOBS}/{run_id}/pictures"
    assert server.get(where).json == {"pictures": ["overview", "loss", "gradient", "learning-rate", "status"]}
    missing = server.get(f"{where}/terrain")
    assert missing.status == 404
    assert "loss_landscape.py" in detail(missing)
    assert server.get(f"{where}/no-such").status == 404
    assert server.get(f"{where}/loss?theme=no-such").status == 422
    first = server.get(f"{where}/loss?lang=zh&theme=paper")
    assert (first.status, first.headers["content-type"], first.body[:8]) == (200, "image/png", b"\x89PNG\r\n\x1a\n")
    unchanged = server.get(f"{where}/loss?lang=zh&theme=paper", headers={"If-None-Match": first.headers["etag"]})
    assert (unchanged.status, unchanged.body) == (304, b"")
    path = root / "sweep" / "a"
    write_surface(surface_path(path, "0" * 16), quadratic_surface())
    terrain = server.get(f"{where}/terrain")
    assert (terrain.status, terrain.body[:4]) == (200, b"\x89PNG")
    assert terrain.headers["etag"] != first.headers["etag"]
    assert server.get(where).json["pictures"][-3:] == ["landscape", "trajectory", "terrain"]
