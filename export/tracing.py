"""From a module to an ONNX graph whose inputs and outputs have the axes that they are declared with."""

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from export.signature import name_axes
from service.bundle import Axis

Axes = Mapping[str, tuple[Axis, ...]]


def trace_module(module: nn.Module, inputs: Mapping[str, Tensor], writes: Axes, reads: Axes, opset: int
                 ) -> onnx.ModelProto:  # fmt: skip
    """Trace a module: `inputs` in its order, `reads` their axes, `writes` the axes of its outputs in its order."""
    axes = {**reads, **writes}
    dynamic = {name: {at: axis for at, axis in enumerate(named) if isinstance(axis, str)}
               for name, named in axes.items()}  # fmt: skip
    with warnings.catch_warnings(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        # The exporter in use is deprecated, and tracing warns of values that become constants; parity is proved
        # at other shapes than the traced ones, so that a constant that should have been none is found.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), tuple(inputs.values()), Path(folder) / "graph.onnx", dynamo=False, opset_version=opset,
            input_names=list(inputs), output_names=list(writes), dynamic_axes=dynamic,
        )  # fmt: skip
        model = onnx.load(Path(folder) / "graph.onnx")
    name_axes((*model.graph.input, *model.graph.output), dict(axes))
    return model
