"""What an ONNX file says about its own inputs and outputs, in the manifest's words."""

from collections.abc import Iterable
from typing import get_args

import onnx
from onnx import helper

from service.bundle import Axis, Graph, Tensor

NAMED_AXES = get_args(get_args(Axis)[0])


def read_graph(model: onnx.ModelProto, file: str) -> Graph:
    """Read the signature of a graph that is stored as `file`; raise ValueError for an axis without a known name."""
    return Graph(file, _tensors(model.graph.input), _tensors(model.graph.output))


def name_axes(values: Iterable[onnx.ValueInfoProto], axes: dict[str, tuple[Axis, ...]]) -> None:
    """Write the axes into inputs or outputs: tracing leaves names of its own where it could not infer a size."""
    for value in values:
        shape = value.type.tensor_type.shape
        del shape.dim[:]
        for axis in axes[value.name]:
            dimension = shape.dim.add()
            if isinstance(axis, str):
                dimension.dim_param = axis
            else:
                dimension.dim_value = axis


def _tensors(values: Iterable[onnx.ValueInfoProto]) -> tuple[Tensor, ...]:
    return tuple(Tensor(value.name, _dtype(value), _axes(value)) for value in values)


def _dtype(value: onnx.ValueInfoProto) -> str:
    return str(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name)


def _axes(value: onnx.ValueInfoProto) -> tuple[Axis, ...]:
    axes: list[Axis] = []
    for number, dimension in enumerate(value.type.tensor_type.shape.dim):
        if dimension.HasField("dim_value"):
            axes.append(dimension.dim_value)
        elif dimension.dim_param in NAMED_AXES:
            axes.append(dimension.dim_param)  # type: ignore[arg-type] # one of Axis's names, by the line above
        else:
            raise ValueError(f"axis {number} of {value.name} is {dimension.dim_param!r}, not one of {NAMED_AXES}")
    return tuple(axes)
