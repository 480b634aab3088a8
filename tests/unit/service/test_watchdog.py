"""Engines that stand still, on a clock that the tests move."""

from service.watchdog import Watchdog


class Scene:
    """An engine as the watchdog sees it, and the time."""

    def __init__(self, limit: float) -> None:
        self.now, self.pending, self.progress = 0.0, 0, 0
        self.watchdog = Watchdog(limit, lambda: self.now)
        self.watchdog.add("toy", lambda: self.pending, lambda: self.progress)

    def stalled_at(self, now: float) -> list[str]:
        """Look at this time."""
        self.now = now
        return self.watchdog.stalled()


def test_work_without_progress_is_standing_still() -> None:
    """After the limit and not before; the next step ends it."""
    scene = Scene(10.0)
    scene.pending = 1
    assert [[], [], ["toy"]] == [scene.stalled_at(now) for now in (1.0, 10.0, 10.1)]
    scene.progress += 1
    assert [] == scene.stalled_at(11.0)


def test_no_work_is_no_standing_still() -> None:
    """An engine that nobody asks anything is well, and its time counts from when work comes."""
    scene = Scene(10.0)
    assert [] == scene.stalled_at(1000.0)
    scene.pending = 1
    assert [[], ["toy"]] == [scene.stalled_at(now) for now in (1010.0, 1010.5)]


def test_progress_starts_the_time_anew() -> None:
    """An engine that is slow but gets on is well."""
    scene = Scene(10.0)
    scene.pending = 1
    for step in range(1, 6):
        scene.progress = step
        assert [] == scene.stalled_at(9.0 * step)


def test_without_a_limit_nothing_stands_still() -> None:
    """A limit of 0 is none."""
    scene = Scene(0.0)
    scene.pending = 1
    assert [] == scene.stalled_at(1e9)
