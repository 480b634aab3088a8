"""Where a bundle is loaded, and what is said of it."""

from pathlib import Path

import pytest

from service import bundle
from service.bundle import Bundle
from service.engine.device.loading import load_models
from service.engine.device.model import Wishes
from service.engine.runtime.provider import why_not
from service.engine.session import OnnxModel
from service.errors import StartupError

onnx_toy = pytest.importorskip("tests.onnx_toy", reason="needs onnx, of the export set")
without_cuda = pytest.mark.skipif(why_not("cuda", 0) is None, reason="CUDA works here")


@pytest.fixture
def toy(tmp_path: Path) -> Bundle:
    """Load the toy bundle."""
    return bundle.load(onnx_toy.write_bundle(tmp_path))


def test_each_device_has_a_model_of_its_own(toy: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    """As many as there are devices; each says where it is and why in a line."""
    with caplog.at_level("INFO"):
        first, second = load_models(toy, "auto", 1, (0, 1), Wishes(), lambda *_: "no driver")
    assert first is not second
    assert ["toy runs on cpu: not on cuda: no driver"] * 2 == caplog.messages


@without_cuda
def test_auto_serves_on_the_cpu_what_a_gpu_does_not_run(
    toy: Bundle, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Even where the device seemed to work: one line, and the runtime's own pages stay away."""
    with caplog.at_level("INFO"):
        (model,) = load_models(toy, "auto", 1, (0,), Wishes(), lambda *_: None)
    assert isinstance(model, OnnxModel)
    (line,) = caplog.messages
    assert line.startswith("toy runs on cpu: not on cuda:0: ")
    assert 1 == len(line.splitlines())
    assert ("", "") == capfd.readouterr()


@without_cuda
def test_who_asks_for_a_gpu_gets_no_cpu(toy: Bundle) -> None:
    """An explicit wish is met or ends the start."""
    with pytest.raises(StartupError):
        load_models(toy, "cuda", 1, (0,), Wishes(), lambda *_: None)
