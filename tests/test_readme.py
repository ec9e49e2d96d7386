"""The README does what it says: its Python and its commands are run, in their order, and its files exist."""

import re
import shlex
from pathlib import Path

import pytest

from fnet.cli.main import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
STAND_INS = {"PATH": "data.csv", "NAME": "kind", "NEW_ROWS": "new.csv"}


def test_quickstart_is_two_commands_of_one_line() -> None:
    section = README.split("## Quickstart")[1].split("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.M | re.S)
    assert [len(block.splitlines()) for block in blocks] == [1, 1]


def test_files_that_are_named_exist() -> None:
    names = set(re.findall(r"(?:scripts|tests)/[\w/.-]+\.(?:py|png|md)", README))
    assert names
    assert [name for name in sorted(names) if not (ROOT / name).exists()] == []


def test_python_and_commands_run_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"{i % 7},{'uvw'[i % 3]},{'ab'[i % 2]}" for i in range(60)]
    Path("data.csv").write_text("\n".join(["size,site,kind", *rows]))
    Path("new.csv").write_text("site,size\nu,2\nw,\n")
    names: dict[str, object] = {}
    before, after = README.split("## Quickstart")
    blocks = re.findall(r"^```(python|sh)\n(.*?)^```", before + after.split("\n## ", 1)[1], re.M | re.S)
    assert len(blocks) >= 6
    for language, block in blocks:
        if language == "python":
            for library in re.findall(r"# needs (\w+)", block):
                pytest.importorskip(library, reason=f"{library} is not installed")
            exec(compile(block, "README.md", "exec"), names)
            continue
        for command in block.splitlines():
            if "--to onnx" in command:
                pytest.importorskip("onnx", reason="onnx is not installed")
            words = [STAND_INS.get(word, word) for word in shlex.split(command)]
            assert words[0] == "fnet"
            assert main(words[1:]) == 0, command
