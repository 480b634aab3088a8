"""`make soak`, cut to seconds: everything but what only time can show."""

from pathlib import Path

import pytest

from tests.integration.test_process import needs_embedded
from tests.soak.__main__ import Plan, soak
from tests.soak.report import lines, table, write
from tests.soak.vitals import slope_per_hour


@needs_embedded
def test_a_short_soak(tmp_path: Path) -> None:
    """Nothing ends as it must not, and at rest everything is back: texts, permits, threads, descriptors."""
    pytest.importorskip("matplotlib", reason="needs matplotlib, of the export set")
    found = soak(Plan(seconds=6.0, rate=6.0, look_every=1.0, reload_every=3.0), lambda _: None)
    rows = table(found, timed=False)
    assert [] == [row for row in rows if not row.kept]
    assert 20 < sum(sum(codes.values()) for codes in found.endings.values())
    write(found, rows, tmp_path)
    assert {"soak.json", "soak.png"} == {path.name for path in tmp_path.iterdir()}
    assert "permits back" in "\n".join(lines(found, rows))


def test_a_slope_with_a_jump_in_it() -> None:
    """What grows steadily shows as it is, whatever stands out for a while."""
    seconds = [float(second) for second in range(100)]
    steady = [100.0 + second / 3600 for second in seconds]
    jumping = [value + 80.0 if 40 <= second < 50 else value for second, value in zip(seconds, steady, strict=True)]
    assert pytest.approx(1.0) == slope_per_hour(seconds, steady)
    assert pytest.approx(1.0, abs=0.2) == slope_per_hour(seconds, jumping)
    assert 0.0 == slope_per_hour([1.0], [1.0])
