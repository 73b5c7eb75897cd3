"""What is printed on one side comes out on the other, whole and in order, and little of it lies about."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.launch import output_relay as relay
from training.launch.output_relay import RelayReader, relay_writer


@given(
    st.lists(st.tuples(st.text(st.characters(codec="utf-8"), max_size=30), st.booleans()), max_size=30),
    st.integers(1, 40),
)
def test_all_comes_out_in_order_however_it_is_cut(pieces: list[tuple[str, bool]], file_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(relay, "FILE_BYTES", file_bytes)
        path, shown = Path(directory) / "shown.out", io.StringIO()
        reader = RelayReader(path, "utf-8", shown)
        reader.copy()  # before there is a writer
        with relay_writer(path, "utf-8", 1) as writer:
            for text, is_read in pieces:
                writer.write(text)
                writer.flush()
                if is_read:
                    reader.copy()
                    assert len(list(Path(directory).iterdir())) == 1, "what was passed on is deleted"
        reader.copy()
        reader.close()
        assert shown.getvalue() == "".join(text for text, _ in pieces)


def test_a_progress_bar_is_passed_on_before_its_line_ends(tmp_path: Path) -> None:
    shown = io.StringIO(newline="")
    reader = RelayReader(tmp_path / "shown.err", "utf-8", shown)
    writer = relay_writer(tmp_path / "shown.err", "utf-8", 2)
    print("50%|██", end="\r", file=writer)
    reader.copy()
    assert shown.getvalue() == "50%|██\r"
    writer.close()
    reader.close()


def test_what_the_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    shown = io.StringIO()
    reader = RelayReader(tmp_path / "shown.out", "cp1252", shown)
    with relay_writer(tmp_path / "shown.out", "cp1252", 1) as writer:
        print("é 你", file=writer)
    reader.copy()
    reader.close()
    assert shown.getvalue() == "é \\u4f60\n"


def test_child_processes_write_to_the_descriptor_that_stands_for_it(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log, relay_writer(tmp_path / "shown.out", "utf-8", log.fileno()) as writer:
        subprocess.run([sys.executable, "-c", "print('child')"], stdout=writer, check=True)
    assert (tmp_path / "log").read_text() == "child\n"
    assert (tmp_path / "shown.out.0").read_text() == ""
