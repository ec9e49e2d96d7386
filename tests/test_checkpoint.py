"""Checkpoints: exact, atomic, and suspicious of what they read."""

import contextlib
import errno
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from fnet import checkpoint, testing, tree


class Pair(NamedTuple):
    a: Any
    b: Any


TREES: dict[str, Any] = {
    "array": np.arange(3),
    "nested": {"x": [np.zeros((2, 0), np.float32), (np.float64(1.5), None)], "a/b..": Pair(1, "text")},
    "scalars": (True, 7, 2.5, 1j, "äöü", np.int8(-3), np.True_),
    "0-d": np.array(5.0),
    "dtypes": tuple(np.ones(2, d) for d in ("?", "u1", "<i2", ">f4", "f2", "c16", "U3", "S2", "M8[s]")),
    "special": np.array([np.nan, np.inf, -0.0, 5e-324]),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "empty": (),
}


@pytest.mark.parametrize("given", TREES.values(), ids=TREES)
def test_a_tree_comes_back_bit_for_bit(given: Any, tmp_path: Path) -> None:
    path = tmp_path / "tree.npz"
    checkpoint.save(path, given, metadata={"note": [1, "x"]})
    loaded = checkpoint.load(path, given)
    testing.assert_trees_equal(loaded, given)
    assert [type(leaf) for leaf in tree.leaves(loaded)] == [type(leaf) for leaf in tree.leaves(given)]
    assert checkpoint.load_metadata(path) == {"note": [1, "x"]}
    first = path.read_bytes()
    checkpoint.save(path, given, metadata={"note": [1, "x"]})
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["tree.npz"]


def test_numpy_reads_the_file(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "tree.npz", {"w": np.arange(3)})
    with np.load(tmp_path / "tree.npz", allow_pickle=False) as arrays:
        assert arrays["leaf['w']"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "leaf", [object(), np.array([None]), np.zeros(1, [("a", int)]), 2**70, b"x", np.ma.masked_array([1.0])]
)
def test_leaves_of_other_kinds_are_refused(leaf: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"leaf \['w'\] is a"):
        checkpoint.save(tmp_path / "tree.npz", {"w": leaf})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"w": np.zeros(3)}, r"leaf \['w'\] is float64\[2\], but float64\[3\] is expected"),
        ({"w": np.zeros(2, np.float32)}, r"leaf \['w'\] is float64\[2\], but float32\[2\] is expected"),
        ({"v": np.zeros(2)}, r"missing .*'v'.*not expected .*'w'"),
        ((), "another tree"),
    ],
)
def test_another_tree_is_an_error_that_names_the_leaf(like: Any, message: str, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "tree.npz", {"w": np.zeros(2)})
    with pytest.raises(ValueError, match=message):
        checkpoint.load(tmp_path / "tree.npz", like)


@pytest.mark.parametrize("leaf", ["a\0", "\0", np.str_("a\0"), np.bytes_(b"a\0")])
def test_a_string_that_numpy_would_cut_short_is_refused(leaf: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"leaf \['w'\] is a string that ends in a NUL"):
        checkpoint.save(tmp_path / "tree.npz", {"w": leaf})
    assert list(tmp_path.iterdir()) == []


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path, given = tmp_path / "tree.npz", {"w": np.arange(4.0)}
    checkpoint.save(path, given)
    data = path.read_bytes()
    for position in range(0, len(data), 7):
        changed = bytearray(data)
        changed[position] ^= 1 << (position % 8)
        path.write_bytes(changed)
        try:
            loaded = checkpoint.load(path, given)
        except ValueError:
            continue
        testing.assert_trees_equal(loaded, given)  # a bit that means nothing, such as one of the date


@pytest.mark.parametrize("size", [0, 10, 100, -1])
def test_a_cut_file_is_noticed(size: int, tmp_path: Path) -> None:
    path = tmp_path / "tree.npz"
    checkpoint.save(path, np.arange(4.0))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"damaged|not a"):
        checkpoint.load(path, np.arange(4.0))


def test_metadata_are_bounded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the metadata take \d+ bytes as JSON, more than 16777216"):
        checkpoint.save(tmp_path / "tree.npz", (), metadata={"x": "y" * (16 << 20)})
    checkpoint.save(tmp_path / "tree.npz", (), metadata={"x": "y" * 100})
    with pytest.raises(ValueError, match=r"tree\.npz: its metadata take 109 bytes, more than 100"):
        checkpoint.read(tmp_path / "tree.npz", max_metadata=100)


def test_other_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", x=np.zeros(2))
    with pytest.raises(ValueError, match="not a checkpoint of fnet"):
        checkpoint.load(tmp_path / "other.npz", np.zeros(2))
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "none.npz", ())
    with zipfile.ZipFile(tmp_path / "path.npz", "w") as archive:
        archive.writestr("../up.npy", b"")
    with pytest.raises(ValueError, match="named like a path"):
        checkpoint.load(tmp_path / "path.npz", ())


def test_pipes_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    for path in (tmp_path / "pipe.npz", Path("/dev/zero")):
        with pytest.raises(ValueError, match="is not a regular file"):
            checkpoint.load(path, ())


def test_many_missing_leaves_are_not_all_named(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "tree.npz", {"w": np.zeros(2)})
    with pytest.raises(ValueError, match=r"missing \['leaf\[0\]', .*\] and 9995 more, not expected .*\bw\b") as caught:
        checkpoint.load(tmp_path / "tree.npz", tuple(range(10_000)))
    assert len(str(caught.value)) < 500


def test_a_new_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    for mask, mode in ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)):
        before = os.umask(mask)
        try:
            checkpoint.save(tmp_path / "tree.npz", np.zeros(2))
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "tree.npz").stat().st_mode) == mode


def test_the_umask_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "umask", None)
    checkpoint.save(tmp_path / "tree.npz", np.zeros(2))


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "tree.npz"
    checkpoint.save(path, np.zeros(2))
    monkeypatch.setattr(os, function, full)
    with pytest.raises(OSError, match=r"No space left on device: .*tree\.npz") as caught:
        checkpoint.save(path, np.ones(2))
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    testing.assert_trees_equal(checkpoint.load(path, np.zeros(2)), np.zeros(2))
    assert [p.name for p in tmp_path.iterdir()] == ["tree.npz"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        checkpoint.save(tmp_path / "nowhere" / "tree.npz", (np.ones(2),))


def test_the_newest_two_steps_are_kept(tmp_path: Path) -> None:
    for step in (3, 10, 9):
        checkpoint.save_step(tmp_path / "run", step, np.array(step))
    assert [path.name for path in checkpoint.steps(tmp_path / "run")] == ["step-0000000010.npz", "step-0000000009.npz"]
    assert len(list((tmp_path / "run").iterdir())) == 2


WRITER = """
import os, sys, time
from fnet import checkpoint
os.fsync = lambda handle: (print("writing", flush=True), time.sleep(60))
checkpoint.write_atomically(sys.argv[1], b"x")
"""


def test_temporary_files_of_killed_writers_are_removed_and_others_stay(tmp_path: Path) -> None:
    foreign = tmp_path / ".step-1.npz.x.tmp"
    foreign.write_bytes(b"of another program")
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(
                subprocess.Popen([sys.executable, "-c", WRITER, tmp_path / name], stdout=subprocess.PIPE)
            )
            for name in ("killed", "alive")
        ]
        for writer in writers:
            stack.callback(writer.kill)
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"writing\n"
        for path in tmp_path.glob(".*.fnet-tmp"):  # as if the writing had taken long
            os.utime(path, (0, 0))
        writers[0].kill()
        writers[0].wait()
        assert len(list(tmp_path.iterdir())) == 3
        checkpoint.save_step(tmp_path, 3, np.array(3))
        (left,) = tmp_path.glob(".*.fnet-tmp")
        assert left.name.startswith(".alive.")
    assert foreign.exists()


def test_two_processes_that_save_in_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    code = (
        "import sys; from fnet import checkpoint\nfor i in range(150): checkpoint.save_step(sys.argv[1], i, (1.0, i))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, tmp_path], stderr=subprocess.PIPE) for _ in range(2)]
    assert [writer.communicate(timeout=60)[1] for writer in writers] == [b"", b""]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000000148.npz", "step-0000000149.npz"]


def test_the_step_just_written_is_not_deleted(tmp_path: Path) -> None:
    for step in (10, 20, 5):
        path = checkpoint.save_step(tmp_path, step, np.array(step))
    assert checkpoint.load(path, np.array(0)) == 5


@pytest.mark.parametrize(("step", "keep"), [(1, 0), (1, -1), (-1, 2)])
def test_bad_steps(step: int, keep: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"keep must be at least 1 and step at least 0, but got {keep} and {step}"):
        checkpoint.save_step(tmp_path / "run", step, np.array(step), keep=keep)
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"leaf \['w'\] is a ndarray of \|V2"):
        checkpoint.save(tmp_path / "tree.npz", {"w": np.zeros(2, "V2")})
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_newest_falls_back_with_a_warning(tmp_path: Path) -> None:
    def read(path: Path) -> Any:
        return checkpoint.load(path, np.array(0))

    assert checkpoint.load_newest(tmp_path, read) is None
    for step in (1, 2):
        newest = checkpoint.save_step(tmp_path, step, np.array(step))
    newest.write_bytes(newest.read_bytes()[:-30])
    with pytest.warns(UserWarning, match=r"step-0000000002\.npz"):
        assert checkpoint.load_newest(tmp_path, read) == 1
    for path in checkpoint.steps(tmp_path):
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ValueError, match="all checkpoints"):
        checkpoint.load_newest(tmp_path, read)
