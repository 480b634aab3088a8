"""The GPU command, rehearsed on the CPU with models of a few thousand weights."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from service import bundle
from service.engine.device.model import DeviceModel
from tests.benchmark.report import Figure, Goal, Section
from tests.export.tiny import write_checkpoint
from tests.gpu import __main__ as command
from tests.gpu import libraries, models, notebook, overlap, part, plan, steps
from tests.gpu.plan import FAMILIES, PRECISIONS, Plan

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Measure the parts that need no server, in this process."""
    checkpoint, output = write_checkpoint(tmp_path_factory.mktemp("checkpoint")), tmp_path_factory.mktemp("gpu")
    planned = Plan("cpu", output, checkpoint, compile=False, quick=True)
    for name in ("card", "originals", "steps", "overlap", "peers"):
        assert 0 == part.main(name, planned)
    return planned


def test_every_family_precision_and_way_is_measured(rehearsal: Plan) -> None:
    """Each has a step's time, a rate and the floor at each number of rows, and PyTorch's step to compare with."""
    found = {figure.name for figure in notebook.read(rehearsal.output / "steps.json")[0].figures}
    peers = {figure.name for figure in notebook.read(rehearsal.output / "peers.json")[0].figures}

    for family in FAMILIES:
        for precision in PRECISIONS:
            assert f"{family}, {precision}, PyTorch eager, 4 row(s): step" in peers
            for way in ("host path", "device path"):
                for rows in plan.QUICK.rows:
                    what = f"{family}, {precision}, {way}, {rows} row(s)"
                    assert {f"{what}: step", f"{what}: rate", f"{what}: floor / step"} <= found


def test_what_overlap_hides_is_measured(rehearsal: Plan) -> None:
    """Each family has its steps with and without work for the host, overlapped and waiting, and the share hidden."""
    section, _ = notebook.read(rehearsal.output / "overlap.json")
    found = {figure.name for figure in section.figures}

    assert 1 == len(section.notes)
    for family in FAMILIES:
        for way in (overlap.OVERLAPPED, overlap.WAITING):
            what = f"{family}, fp32, {way}, 4 row(s)"
            assert {f"{what}: step", f"{what}: step with the work", f"{what}: hidden"} <= found


@pytest.mark.parametrize(("busy", "hidden"), [(1.0, 1.0), (1.5, 0.75), (3.0, 0.0)])
def test_hidden_is_what_steps_did_not_become_longer_by(busy: float, hidden: float) -> None:
    """As long as without the work: all of it; longer by the work: nothing."""
    assert hidden == pytest.approx(overlap.Timed([1.0], [busy]).hidden(2.0))


def test_prepared_memory_is_given_back(rehearsal: Plan) -> None:
    """After rows were measured, the next ones step in what was prepared, and captured on a GPU."""
    loaded = bundle.load(rehearsal.bundle("transformer", "fp32"))
    model = models.open_model(loaded, rehearsal, models.Mode("prepared", 4))
    for rows in (1, 2):
        steps.time_steps(rehearsal, model, rows)

    assert isinstance(model, DeviceModel)
    assert model.open(1).arena.ready


def test_a_bundle_that_is_missing_is_a_note(rehearsal: Plan, tmp_path: Path) -> None:
    """Where bundles could not be made in time, the part says so and measures what there is."""
    assert 0 == part.main("steps", dataclasses.replace(rehearsal, output=tmp_path))

    section, _ = notebook.read(tmp_path / "steps.json")
    assert [] == section.figures
    assert "transformer, fp16, device path: not measured, " in "\n".join(section.notes)


def test_the_parts_are_one_table(rehearsal: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    """What parts have written becomes a table, a page and JSON; without a GPU no goal is judged."""
    command.summarize(rehearsal)

    printed = capsys.readouterr().out
    assert "transformer, fp16: PyTorch eager / engine" in printed
    assert "card: none: the command was rehearsed on the CPU" in printed
    assert "MISSED" not in printed
    data = json.loads((rehearsal.output / "figures.json").read_text(encoding="utf-8"))
    assert ["steps", "overlap", "peers", "originals", "card", "against PyTorch"] == [
        one["title"] for one in data["sections"]
    ]


def test_a_machine_without_a_gpu_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The plain command says in one line what keeps CUDA from working, and ends with status 2."""
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU")
    status = command.main(["--output", str(tmp_path), "card"])

    lines = capsys.readouterr().err.strip().splitlines()
    assert (2, 1) == (status, len(lines))
    assert lines[0].startswith("gpu: provider cuda is not to be had: ")


def test_missing_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a package is not installed, the command says which, before it does anything."""
    monkeypatch.setattr(command, "PACKAGES", ("numpy", "no_such_package", "no.such.module"))

    assert 2 == command.main(["--output", str(tmp_path / "gpu")])
    expected = "gpu: missing packages: no_such_package, no.such.module; docs/gpu.md says how to bring them along\n"
    assert expected == capsys.readouterr().err
    assert not (tmp_path / "gpu").exists()


def test_libraries_of_packages_are_found(tmp_path: Path) -> None:
    """The folders of NVIDIA's packages come first, then PyTorch's own."""
    nvidia, torch = tmp_path / "nvidia", tmp_path / "torch"
    for folder in (nvidia / "cu13/lib", nvidia / "cudnn/lib", nvidia / "cudnn/include", torch / "lib"):
        folder.mkdir(parents=True)

    expected = [nvidia / "cu13/lib", nvidia / "cudnn/lib", torch / "lib"]
    assert expected == libraries.library_folders([nvidia], [torch, tmp_path / "nowhere"])


def test_a_part_that_is_cut_short_leaves_what_it_has(tmp_path: Path) -> None:
    """Every figure is on the disk as soon as it is known."""
    book = notebook.Notebook(tmp_path / "steps.json", "steps")
    book.add(Figure("one", 1.0, "ms", goal=Goal("<=", 2.0)))

    section, _ = notebook.read(tmp_path / "steps.json")
    assert Section("steps", [Figure("one", 1.0, "ms", goal=Goal("<=", 2.0))], []) == section


def test_a_table_that_is_looked_up_in_is_not_read_whole() -> None:
    """A step reads a row of an embedding for each of its rows, and all of a matrix, as wide as the device holds it."""
    constants = [
        numpy_helper.from_array(np.zeros((100, 8), np.float32), "table"),
        numpy_helper.from_array(np.zeros((8, 20), np.float16), "stored"),
    ]
    nodes = [
        helper.make_node("Cast", ["stored"], ["matrix"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["table", "ids"], ["x"]),
        helper.make_node("MatMul", ["x", "matrix"], ["y"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "step", [], [], constants))

    assert 3 * 8 * 4 + 8 * 20 * 4 == steps.weight_bytes(model, rows=3)


@pytest.mark.parametrize(
    ("spans", "covered"), [([], 0.0), ([(0, 2), (1, 3)], 3.0), ([(5, 6), (0, 1)], 2.0), ([(0, 9), (2, 3)], 9.0)]
)
def test_overlapping_kernels_count_once(spans: list[tuple[float, float]], covered: float) -> None:
    """What the device does at the same time takes that time once."""
    assert covered == steps.union(spans)
