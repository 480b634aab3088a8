"""The rules of the house that no linter checks: size budgets, docstrings, who may import what, and the serving set."""

import ast
import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for folder in ("service", "export", "tests") for path in (ROOT / folder).rglob("*.py"))
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 50
MAX_PARAMETERS = 6
MAX_BUNDLES_BYTES = 16 << 20

METRICS = (
    "grpc_server_started_total",
    "grpc_server_handled_total",
    "grpc_server_handling_seconds",
    "dragoman_queue_time_seconds",
    "dragoman_encode_seconds",
    "dragoman_step_seconds",
    "dragoman_time_to_first_token_seconds",
    "dragoman_inter_token_latency_seconds",
    "dragoman_decode_seconds",
    "dragoman_requests_waiting",
    "dragoman_requests_running",
    "dragoman_batch_rows",
    "dragoman_source_tokens_total",
    "dragoman_target_tokens_total",
    "dragoman_requests_rejected_total",
    "dragoman_requests_finished_total",
    "dragoman_model_load_seconds",
    "dragoman_model_info",
    "dragoman_build_info",
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    """Return the path as people write it, from the root of the repository."""
    return path.relative_to(ROOT).as_posix()


def functions_of(tree: ast.AST) -> Iterator[Function]:
    """Give all functions and methods of a module, nested ones among them."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def parameters_of(function: Function) -> list[str]:
    """Return the names of a function's parameters but self and cls."""
    given = function.args
    variadic = [argument for argument in (given.vararg, given.kwarg) if argument]
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs, *variadic)]
    return [name for name in names if name not in {"self", "cls"}]


def imports_of(path: Path) -> set[str]:
    """Return the full names that a module imports, wherever in it the import stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def importers_of(package: str) -> set[str]:
    """Return the modules that import a package or anything in it."""
    return {name_of(path) for path in MODULES if any(f"{name}.".startswith(f"{package}.") for name in imports_of(path))}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_budget(path: Path) -> None:
    """A file has at most 300 lines, a function at most 50 and 6 parameters: going over is a design event."""
    text = path.read_text()
    functions = list(functions_of(ast.parse(text)))
    too_long = [f.name for f in functions if f.end_lineno is None or f.end_lineno - f.lineno + 1 > MAX_FUNCTION_LINES]
    too_wide = [f.name for f in functions if len(parameters_of(f)) > MAX_PARAMETERS]

    assert MAX_FILE_LINES >= len(text.splitlines())
    assert [] == too_long
    assert [] == too_wide


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_docstrings(path: Path) -> None:
    """Every module says in its docstring what it is for, and every test what behaviour it fixes."""
    tree = ast.parse(path.read_text())
    tests = [function for function in functions_of(tree) if function.name.startswith("test_")]

    assert ast.get_docstring(tree)
    assert [] == [test.name for test in tests if not ast.get_docstring(test)]


def test_onnxruntime_has_one_importer() -> None:
    """ONNX Runtime can be replaced by changing one module."""
    importers = {name for name in importers_of("onnxruntime") if name.startswith("service/")}

    assert {"service/engine/runtime/ort.py"} == importers


def test_generated_stubs_stay_at_the_border() -> None:
    """Proto messages live in service/rpc; tests may look at them."""
    strangers = {name for name in importers_of("dragoman") if not name.startswith(("service/rpc/", "tests/"))}

    assert set() == strangers


def test_environment_has_one_reader() -> None:
    """What an operator can set by the environment stands in one module."""
    reads = re.compile(r"\bos\.(environ|getenv)|\bfrom os import\b")
    readers = {name_of(path) for path in (ROOT / "service").rglob("*.py") if reads.search(path.read_text())}

    assert {"service/config.py"} == readers


def test_engine_stays_readable_in_one_sitting() -> None:
    """The engine's rooms together have at most 2,350 lines, and none of them more than any file may have."""
    lines = [len(path.read_text().splitlines()) for path in (ROOT / "service/engine").glob("*.py")]

    assert sum(lines) <= 2350


def test_runtime_and_devices_stay_readable_in_another() -> None:
    """The runtime, and a batch that stays on a device, have rooms of their own: together at most 1,600 lines."""
    rooms = [ROOT / "service/engine" / room for room in ("device", "runtime")]
    lines = [len(path.read_text().splitlines()) for room in rooms for path in room.glob("*.py")]

    assert sum(lines) <= 1600


def test_embedded_bundles_stay_small() -> None:
    """What everyone clones and installs holds at most 16 MiB of models."""
    sizes = [path.stat().st_size for path in (ROOT / "service/bundles").rglob("*") if path.is_file()]

    assert sum(sizes) <= MAX_BUNDLES_BYTES


def test_serving_set_is_free_of_training_packages() -> None:
    """Without extras, dragoman requires neither torch nor onnx nor transformers."""
    requirements = importlib.metadata.requires("dragoman") or []
    base = {re.split(r"[^\w-]", line)[0] for line in requirements if "extra ==" not in line}

    assert "onnxruntime-gpu" in base
    assert set() == base & {"torch", "onnx", "onnxscript", "transformers", "safetensors", "sacrebleu", "matplotlib"}


@pytest.mark.parametrize("name", METRICS)
def test_promised_metrics_exist(name: str) -> None:
    """Dashboards and alerts rely on these names; the Prometheus client adds `_total` to counters by itself."""
    text = (ROOT / "service/metrics.py").read_text()

    assert re.search(rf'"{name}"|"{name.removesuffix("_total")}"', text)
