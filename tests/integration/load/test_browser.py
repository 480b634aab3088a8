"""The report in a real browser: its charts are painted, and the console stays silent."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from service.load.page import page
from tests.unit.service.load.figures import measured, report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
COLOURS = ("#2f6fd0", "#d9622b", "#1f9270")
"""Of the first three series, as report.css has them for light pages."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="not installed: chromium (Debian: apt install chromium)"),
]


def open_page(path: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Open a file in the browser; give what it prints."""
    profile = f"--user-data-dir={path.parent / 'profile'}"
    command = [
        CHROMIUM or "", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
        "--window-size=1280,1800", profile, *options, path.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)  # noqa: S603


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a report of three phases."""
    phases = [measured([0.01 * (1 + index / 100) for index in range(100)], rate=rate) for rate in (50, 100, 150)]
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page(report(*phases)))
    return path


def test_the_console_stays_silent(written: Path) -> None:
    """Neither an error nor a warning; and the page that the browser made of it has all charts."""
    done = open_page(written, "--dump-dom")
    assert [] == re.findall(r".*CONSOLE.*", done.stderr)
    assert 5 == done.stdout.count("<svg")
    assert 3 <= done.stdout.count('<path class="line')


def test_the_charts_are_painted(written: Path) -> None:
    """Each series' colour covers more than a speck of the screenshot."""
    image = pytest.importorskip("matplotlib.image")
    picture = written.with_suffix(".png")
    open_page(written, f"--screenshot={picture}")
    pixels = (image.imread(picture)[..., :3] * 255).round().astype(int)
    for colour in COLOURS:
        rgb = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
        assert 200 < int((abs(pixels - rgb).max(axis=2) <= 2).sum()), colour
