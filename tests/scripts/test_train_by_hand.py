"""scripts/train_by_hand.py: short, right, and careful with its keys."""

import subprocess
import sys

import pytest

from fnet import testing

from .conftest import SCRIPTS, load_script

PATH = SCRIPTS / "train_by_hand.py"


def test_it_fits_on_a_screen_and_a_half() -> None:
    assert len(PATH.read_text().splitlines()) <= 80


def test_it_classifies_the_digits() -> None:
    result = subprocess.run([sys.executable, PATH, "12"], capture_output=True, text=True, timeout=60, check=True)
    lines = result.stdout.splitlines()
    assert len(lines) == 2 + 12 + 3
    assert float(lines[-3].rpartition(" ")[2]) > 0.97


def test_it_uses_no_key_twice(capsys: pytest.CaptureFixture[str]) -> None:
    with testing.check_key_reuse():
        assert load_script("train_by_hand.py").main(epochs=2) > 0.8
