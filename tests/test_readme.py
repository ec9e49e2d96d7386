"""The README does what it says: its Python is run, and its commands and files exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=[f"snippet{i}" for i in range(len(SNIPPETS))])
def test_snippet_runs(snippet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for library in re.findall(r"^# needs (\w+)", snippet, re.M):
        pytest.importorskip(library, reason=f"{library} is not installed")
    exec(compile(snippet, "README.md", "exec"), {})


def test_quickstart_is_two_commands_of_one_line() -> None:
    section = README.split("## Quickstart")[1].split("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.M | re.S)
    assert [len(block.splitlines()) for block in blocks] == [1, 1]


def test_every_script_and_picture_that_is_named_exists() -> None:
    names = set(re.findall(r"scripts/[\w/.-]+\.(?:py|png|md)", README))
    assert names
    assert [name for name in sorted(names) if not (ROOT / name).exists()] == []


def test_commands_run(tmp_path: Path) -> None:
    """All commands outside the Quickstart, in order, with a small table in place of PATH."""
    text = README.split("## Quickstart")[0] + README.split("## Your own data")[1]
    commands = [line for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S) for line in block.splitlines()]
    assert len(commands) >= 4
    rows = [f"{i % 7},{i % 3},{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "data.csv").write_text("\n".join(rows))
    (tmp_path / "NEW_ROWS.csv").write_text("1,2\n3,4\n")
    for command in commands:
        if "--to onnx" in command:
            pytest.importorskip("onnx", reason="onnx is not installed")
        words = shlex.split(command.replace("PATH", "data.csv").replace("scripts/", f"{ROOT}/scripts/"))
        assert words[0] == "python"
        result = subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{command}\n{result.stderr}"
