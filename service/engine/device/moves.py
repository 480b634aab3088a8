"""Graphs that move rows on a device, made for the tensors of a model: no row crosses to the host to join or to move.

Each writes where it reads: a tensor's input and output are one piece of memory. What is moved is copied first.
"""

from collections.abc import Iterable

from service.bundle import Tensor
from service.engine.runtime.wire import Node, Value, graph_bytes


def join_graph(memory: Iterable[Tensor], state: Iterable[Tensor]) -> bytes:
    """Write rows of what was encoded into slots: `NAME` is the whole tensor, `NAME.new` what was encoded.

    Memory goes by `groups.from` and `groups.to`, state by `rows.from` and `rows.to`; `.from` is `[n]`, `.to` `[n, 1]`.
    `NAME.pads` says how much wider or narrower memory has to become.
    """
    graph = _Graph()
    for tensor in memory:
        graph.scatter(tensor, graph.padded(tensor, f"{tensor.name}.new"), "groups")
    for tensor in state:
        graph.scatter(tensor, graph.read(tensor, f"{tensor.name}.new"), "rows")
    return graph.bytes()


def move_graph(tensors: Iterable[Tensor]) -> bytes:
    """Let the rows `rows.to` `[n, 1]` hold what the rows `rows.from` `[n]` held; the others stay."""
    graph = _Graph()
    for tensor in tensors:
        graph.scatter(tensor, tensor.name, "rows")
    return graph.bytes()


def reshape_graph(memory: Iterable[Tensor], caches: Iterable[Tensor], state: Iterable[Tensor]) -> bytes:
    """Bring all tensors into another bucket: group g is what group `groups.from[g]` was, and so with rows.

    Only state is written to another place than it is read from.
    """
    graph = _Graph()
    for tensor in memory:
        graph.gather(tensor, graph.padded(tensor, graph.read(tensor, tensor.name)), "groups")
    for tensor in caches:
        graph.gather(tensor, graph.padded(tensor, graph.read(tensor, tensor.name)), "rows")
    for tensor in state:
        graph.gather(tensor, graph.read(tensor, tensor.name), "rows")
    return graph.bytes()


class _Graph:
    """Nodes as they are added, and the inputs that they need."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._inputs: dict[str, Value] = {}
        self._outputs: list[Value] = []

    def bytes(self) -> bytes:
        """Return the whole graph."""
        return graph_bytes(self._nodes, self._inputs.values(), self._outputs)

    def read(self, tensor: Tensor, name: str) -> str:
        """Add an input that looks like a tensor."""
        self._inputs[name] = Value(name, tensor.dtype, len(tensor.axes))
        return name

    def padded(self, tensor: Tensor, values: str) -> str:
        """Widen or narrow values by `NAME.pads`, into memory of their own."""
        self.read(tensor, values)
        pads = f"{tensor.name}.pads"
        self._inputs[pads] = Value(pads, "int64", 1)
        self._nodes.append(Node("Pad", (values, pads), f"{values}.padded"))
        return f"{values}.padded"

    def gather(self, tensor: Tensor, values: str, kind: str) -> None:
        """Write all rows of a tensor: row i is row `KIND.from[i]` of the values."""
        output = f"{tensor.name}.out"
        self._nodes.append(Node("Gather", (values, self._indices(f"{kind}.from", 1)), output))
        self._outputs.append(Value(output, tensor.dtype, len(tensor.axes)))

    def scatter(self, tensor: Tensor, values: str, kind: str) -> None:
        """Write some rows of a tensor: row `KIND.to[i]` becomes row `KIND.from[i]` of the values."""
        output, taken = f"{tensor.name}.out", f"{tensor.name}.taken"
        self.read(tensor, tensor.name)
        self._nodes.append(Node("Gather", (values, self._indices(f"{kind}.from", 1)), taken))
        self._nodes.append(Node("ScatterND", (tensor.name, self._indices(f"{kind}.to", 2), taken), output))
        self._outputs.append(Value(output, tensor.dtype, len(tensor.axes)))

    def _indices(self, name: str, axes: int) -> str:
        self._inputs[name] = Value(name, "int64", axes)
        return name
