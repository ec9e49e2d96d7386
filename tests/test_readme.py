"""The README does what it says: its Python is run, and its commands and files exist."""

import re
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
