"""A job's record on its way from the datastore to a run directory: real blob storage, the project's own reporter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.azure_stand_in.azurite import Azurite
from tests.azure_stand_in.certificates import make_certificates
from training.azure_job.mirror import RecordMirror
from training.azure_job.training_view import TrainingView
from training.progress import LOG_NAME, REPORT_NAME, ProgressReporter, read_report

PATH = "apt-runs/job-1"
FACTS = {"total_steps": 40, "num_epochs": 4, "steps_per_epoch": 10}


class Datastore:
    """A container in Azurite, and clients of it as the workspace gives them."""

    def __init__(self, url: str, key: str, authority: Path) -> None:
        self._url, self._options = url, {"credential": key, "connection_verify": str(authority)}
        self.container = self.client()
        self.container.create_container()

    def client(self, **options: Any) -> Any:
        from azure.storage.blob import ContainerClient

        return ContainerClient(self._url, "datastore", **self._options, **options)

    def put(self, name: str, content: bytes) -> None:
        self.container.get_blob_client(f"{PATH}/{name}").upload_blob(content, overwrite=True)

    def get(self, name: str) -> bytes:
        return bytes(self.container.get_blob_client(f"{PATH}/{name}").download_blob().readall())

    def empty(self) -> None:
        for name in list(self.container.list_blob_names()):
            self.container.delete_blob(name)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Datastore]:
    directory = tmp_path_factory.mktemp("azurite")
    certificates = make_certificates(directory)
    with Azurite(directory, "aptstorage", certificates) as azurite:
        yield Datastore(f"https://127.0.0.1:{azurite.port}/aptstorage", azurite.key, certificates.authority)


@pytest.fixture
def datastore(storage: Datastore) -> Datastore:
    storage.empty()
    return storage


class Job:
    """A training job whose run directory is mounted: what it writes arrives in the datastore as whole files."""

    def __init__(self, directory: Path, datastore: Datastore) -> None:
        self.directory, self._datastore = directory, datastore
        directory.mkdir(exist_ok=True)
        self.reporter = ProgressReporter(directory, report_batches=1)

    def start(self) -> None:
        self.reporter.run_started(run_id="r1", **FACTS)

    def resume(self, step: int) -> None:
        self.reporter = ProgressReporter(self.directory, report_batches=1)
        self.reporter.run_resumed(step, run_id="r1", **FACTS)

    def train(self, first: int, last: int) -> None:
        for step in range(first, last + 1):
            self.reporter.step(
                **{"step": step, "epoch": 1 + (step - 1) // 10, "batch": step, "loss": 5.0 - 0.1 * step},
                **{"accuracy": 0.5, "learning_rate": 1e-3, "forward_ms": 1.0, "backward_ms": 2.0, "tokens": 10},
            )

    def upload(self, *names: str) -> None:
        for name in names or (LOG_NAME, REPORT_NAME):
            self._datastore.put(name, (self.directory / name).read_bytes())


@pytest.fixture
def job(tmp_path: Path, datastore: Datastore) -> Job:
    return Job(tmp_path / "mount", datastore)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


def _is_a_copy(run_dir: Path, datastore: Datastore) -> bool:
    return all((run_dir / name).read_bytes() == datastore.get(name) for name in (LOG_NAME, REPORT_NAME))


class TestMirror:
    def test_a_job_that_has_not_begun_leaves_nothing_and_is_no_error(self, datastore: Datastore, run_dir: Path) -> None:
        assert not RecordMirror(PATH, run_dir).look(datastore.container)
        assert list(run_dir.iterdir()) == []

    def test_a_container_that_is_not_there_is_an_error(self, datastore: Datastore, run_dir: Path) -> None:
        from azure.core.exceptions import ResourceNotFoundError
        from azure.storage.blob import ContainerClient

        other = ContainerClient.from_container_url(
            datastore.container.url.replace("/datastore", "/nothing"), **datastore._options
        )
        with pytest.raises(ResourceNotFoundError):
            RecordMirror(PATH, run_dir).look(other)

    def test_the_copy_is_the_record_and_each_byte_of_the_log_comes_once(
        self, datastore: Datastore, job: Job, run_dir: Path
    ) -> None:
        mirror = RecordMirror(PATH, run_dir)
        reports = 0
        job.start()
        for first in range(1, 40, 5):
            job.train(first, first + 4)
            job.upload()
            assert mirror.look(datastore.container)
            assert _is_a_copy(run_dir, datastore)
            reports += len(datastore.get(REPORT_NAME))
        log_bytes = mirror.bytes_read - reports
        assert log_bytes <= len(datastore.get(LOG_NAME)) + 7 * 64  # the marks that were compared

    def test_a_look_at_an_unchanged_record_reads_nothing(self, datastore: Datastore, job: Job, run_dir: Path) -> None:
        mirror = RecordMirror(PATH, run_dir)
        job.start()
        job.upload()
        assert mirror.look(datastore.container)
        before = mirror.bytes_read
        assert not mirror.look(datastore.container)
        assert mirror.bytes_read == before

    def test_another_process_goes_on_with_the_copy(self, datastore: Datastore, job: Job, run_dir: Path) -> None:
        job.start()
        job.train(1, 30)
        job.upload()
        RecordMirror(PATH, run_dir).look(datastore.container)
        size = (run_dir / LOG_NAME).stat().st_size
        job.train(31, 32)
        job.upload()
        second = RecordMirror(PATH, run_dir)
        assert second.look(datastore.container)
        assert _is_a_copy(run_dir, datastore)
        assert second.bytes_read - len(datastore.get(REPORT_NAME)) == len(datastore.get(LOG_NAME)) - size + 64

    def test_a_run_that_begins_anew_replaces_the_copy(self, datastore: Datastore, job: Job, run_dir: Path) -> None:
        mirror = RecordMirror(PATH, run_dir)
        job.start()
        job.train(1, 20)
        job.upload()
        mirror.look(datastore.container)
        job.start()  # shorter than the copy, and different from its first byte on
        job.upload()
        assert mirror.look(datastore.container)
        assert _is_a_copy(run_dir, datastore)
        job.train(1, 30)  # longer again
        job.upload()
        assert mirror.look(datastore.container)
        assert _is_a_copy(run_dir, datastore)

    def test_a_line_that_a_kill_cut_short_is_mended_as_the_job_mends_it(
        self, datastore: Datastore, job: Job, run_dir: Path
    ) -> None:
        mirror = RecordMirror(PATH, run_dir)
        job.start()
        job.train(1, 12)
        with (job.directory / LOG_NAME).open("ab") as log:
            log.write(b'{"event": "step", "time": 17')
        job.upload()
        mirror.look(datastore.container)
        assert (run_dir / LOG_NAME).read_bytes().endswith(b'"time": 17')
        job.resume(10)
        job.train(11, 15)
        job.upload()
        mirror.look(datastore.container)
        assert _is_a_copy(run_dir, datastore)
        report = read_report(run_dir)
        assert report is not None
        assert (report["step"], report["resumed_at_steps"]) == (15, [10])

    def test_a_copy_that_somebody_deleted_comes_back(self, datastore: Datastore, job: Job, run_dir: Path) -> None:
        mirror = RecordMirror(PATH, run_dir)
        job.start()
        job.upload()
        mirror.look(datastore.container)
        for name in (LOG_NAME, REPORT_NAME):
            (run_dir / name).unlink()
        assert mirror.look(datastore.container)
        assert _is_a_copy(run_dir, datastore)

    def test_a_log_that_grows_while_it_is_read_is_whole_at_the_next_look(
        self, datastore: Datastore, job: Job, run_dir: Path
    ) -> None:
        from azure.core.pipeline.transport import RequestsTransport

        class Growing(RequestsTransport):  # type: ignore[misc]  # the SDK is not typed
            """The job writes on between two pieces of the log."""

            grow: Callable[[], None] | None = None

            def send(self, request: Any, **options: Any) -> Any:
                answer = super().send(request, **options)
                grow = self.grow
                if LOG_NAME in request.url and grow is not None:
                    self.grow = None
                    grow()
                return answer

        transport = Growing(connection_verify=datastore._options["connection_verify"])
        small_pieces = datastore.client(transport=transport, max_single_get_size=512, max_chunk_get_size=512)
        mirror = RecordMirror(PATH, run_dir)
        job.start()
        job.train(1, 20)
        job.upload()

        def grow() -> None:
            job.train(21, 25)
            job.upload()

        transport.grow = grow
        assert mirror.look(small_pieces)
        assert mirror.look(small_pieces)
        assert _is_a_copy(run_dir, datastore)
        assert not [path for path in run_dir.iterdir() if path.name.endswith(".tmp")]

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(contents=st.lists(st.text(alphabet="ab\n", max_size=200), min_size=1, max_size=5))
    def test_whatever_becomes_of_the_log_the_copy_follows(
        self, datastore: Datastore, run_dir: Path, contents: list[str]
    ) -> None:
        mirror = RecordMirror(PATH, run_dir)
        (run_dir / LOG_NAME).unlink(missing_ok=True)
        for content in contents:
            datastore.put(LOG_NAME, content.encode())
            mirror.look(datastore.container)
            copy = run_dir / LOG_NAME
            held = copy.read_bytes()
            # A log is appended to or begins anew with another time in its first line; what agrees with the copy in its
            # last 64 bytes is taken for the same log.
            assert (len(held), held[-64:]) == (len(content), content.encode()[-64:])


class TestView:
    """The bar from the copy, off a terminal: what is said, and how often."""

    def test_events_are_told_once_and_in_order(
        self, datastore: Datastore, job: Job, run_dir: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        mirror, view = RecordMirror(PATH, run_dir), TrainingView(run_dir)

        def look() -> str:
            job.upload()
            mirror.look(datastore.container)
            view.look()
            return capsys.readouterr().out

        job.start()
        look()
        job.train(1, 10)
        assert "epoch 1/4 step 1/40 Loss 4.9000" in look()
        job.reporter.evaluation(step=10, epoch=1, loss=4.0, accuracy=0.5)
        job.reporter.emit("checkpoint", {"path": "checkpoint_epoch_1", "step": 10, "bytes": 5})
        job.reporter.warning("the disk is nearly full", step=10)
        job.train(11, 11)
        assert look().splitlines() == [
            "epoch 1: validation loss 4.0000, accuracy 50.0%",
            "saved checkpoint_epoch_1 (step 10)",
            "warning: the disk is nearly full",
        ]
        assert look() == ""
        assert view.step == 11

    def test_after_a_re_attach_it_begins_at_the_present_step(
        self, datastore: Datastore, job: Job, run_dir: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        job.start()
        job.train(1, 10)
        job.reporter.evaluation(step=10, epoch=1, loss=4.0, accuracy=0.5)
        job.train(11, 25)
        job.upload()
        RecordMirror(PATH, run_dir).look(datastore.container)
        view = TrainingView(run_dir)
        view.look()
        said = capsys.readouterr().out.splitlines()
        assert said[0] == "the training is at step 25 of 40"
        assert len(said) == 2
        assert said[1].startswith("epoch 3/4 step 25/40")

    def test_a_restarted_job_is_said_to_go_on_and_the_steps_that_are_done_again_are_shown_again(
        self, datastore: Datastore, job: Job, run_dir: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        mirror, view = RecordMirror(PATH, run_dir), TrainingView(run_dir)
        job.start()
        job.train(1, 14)
        job.upload()
        mirror.look(datastore.container)
        view.look()
        job.resume(10)
        job.train(11, 12)
        job.reporter.evaluation(step=12, epoch=2, loss=3.5, accuracy=0.5)
        job.train(13, 13)
        job.upload()
        mirror.look(datastore.container)
        view.look()
        view.close()
        said = capsys.readouterr().out
        assert "the training goes on from step 10" in said
        assert "epoch 2: validation loss 3.5000" in said
        assert view.step == 13

    def test_the_report_alone_is_enough_where_the_mount_keeps_the_log_back(
        self, datastore: Datastore, job: Job, run_dir: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        mirror, view = RecordMirror(PATH, run_dir), TrainingView(run_dir)
        job.start()
        job.train(1, 5)
        job.upload(REPORT_NAME)
        mirror.look(datastore.container)
        view.look()
        job.train(6, 10)
        job.reporter.evaluation(step=10, epoch=1, loss=4.0, accuracy=0.5)
        job.reporter.warning("the disk is nearly full")
        job.train(11, 11)
        job.upload(REPORT_NAME)
        mirror.look(datastore.container)
        view.look()
        assert view.step == 11
        said = capsys.readouterr().out
        assert said.count("epoch 1: validation loss 4.0000") == 1
        assert said.count("warning: the disk is nearly full") == 1
        job.upload()  # the log at last: nothing is told again
        mirror.look(datastore.container)
        view.look()
        assert capsys.readouterr().out == ""

    def test_a_report_that_is_ahead_of_its_log_is_told(
        self, datastore: Datastore, job: Job, run_dir: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        mirror, view = RecordMirror(PATH, run_dir), TrainingView(run_dir)
        job.start()
        job.train(1, 3)
        job.upload()
        mirror.look(datastore.container)
        view.look()
        job.train(4, 9)
        job.upload(REPORT_NAME)
        mirror.look(datastore.container)
        view.look()
        assert view.step == 9
        job.train(10, 11)
        job.upload()
        mirror.look(datastore.container)
        view.look()
        assert view.step == 11
