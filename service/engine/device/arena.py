"""What the rows of a lane have on a device: memory, caches, state, tokens, what a step leaves; and the runs on it.

State and tokens lie there twice: a step reads one and writes the other, and the next step turns about. The tokens that
all rows choose by themselves, the most probable ones, are read by the next step where this one wrote them.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.bundle import Bundle, Tensor
from service.engine.device.moves import join_graph, move_graph, reshape_graph
from service.engine.device.shapes import Shape
from service.engine.layout import LENGTHS, Layout
from service.engine.runtime.memory import UNCAPTURED, Binding, Block, Device, View
from service.engine.runtime.ort import Session, open_session
from service.engine.session import Encoded
from service.request import Int64

TOKENS = "token_ids"


class Program(NamedTuple):
    """What runs on a device, and the names of what it reads and writes."""

    step: Session
    join: Session
    move: Session | None
    """None: a model without state."""
    reshape: Session
    memory: dict[str, Tensor]
    caches: dict[str, Tensor]
    state: dict[str, Tensor]
    written: dict[str, str]
    """The step's output for each state tensor and cache."""
    outputs: dict[str, Tensor]
    attention: str | None

    @classmethod
    def of(cls, bundle: Bundle, device: Device, step: Session) -> "Program":
        """Make the graphs that move rows, for a bundle's step."""
        manifest = bundle.manifest
        layout = Layout.of(manifest)
        reads = {tensor.name: tensor for tensor in manifest.decoder_step.inputs}
        state = {name: reads[name] for name in layout.state}
        memory, caches = layout.memory.values(), layout.caches.values()
        moved = [*state.values(), *caches]

        def opened(graph: bytes) -> Session:
            return open_session(graph, device.target, verbatim=True)

        return cls(
            step=step,
            join=opened(join_graph(memory, state.values())),
            move=opened(move_graph(moved)) if moved else None,
            reshape=opened(reshape_graph(memory, caches, state.values())),
            memory=layout.memory,
            caches=layout.caches,
            state=state,
            written={pair.input: pair.output for pair in manifest.state},
            outputs={tensor.name: tensor for tensor in manifest.decoder_step.outputs},
            attention=manifest.attention,
        )


class Left(NamedTuple):
    """What a step leaves, a row for each slot: good until the next step."""

    log_probs: NDArray[Any]
    ids: Int64
    attention: NDArray[Any] | None


class Arena:
    """One lane's memory on a device. Slots are rows, or groups of rows, that keep their place while a shape lasts."""

    def __init__(self, device: Device, program: Program) -> None:
        self._device = device
        self._program = program
        self._blocks: dict[str, Block] = {}
        self.steps: dict[tuple[Shape, int, int, bool], tuple[Binding, list[View]]] = {}
        self._turn = 0
        self._leaving: list[View] = []
        """Where the step that was launched last puts what it gives."""
        self.ready = False
        """Whether steps in it were prepared before there was traffic."""
        self.shape = Shape(0, 1, 0, 0)

    @property
    def bytes(self) -> int:
        """What it takes on the device."""
        return sum(block.bytes for block in self._blocks.values())

    def free(self) -> None:
        """Give all of it back."""
        for block in self._blocks.values():
            self._device.give_back(block)
        self._blocks.clear()
        self.steps.clear()
        self.shape = Shape(0, 1, 0, 0)

    def clear(self, shape: Shape) -> None:
        """Take another shape; what stands in the slots is of no use until somebody has joined in each."""
        self._reserve(shape)
        self.shape = shape

    def reshape(self, shape: Shape, groups: Int64) -> None:
        """Take another shape; slot g then holds what slot `groups[g]` held."""
        program, before = self._program, self.shape
        feeds: dict[str, View | NDArray[Any]] = {}
        for name, tensor in (program.memory | program.caches).items():
            feeds[name] = self._view(name, tensor, before)
            feeds[f"{name}.pads"] = _pads(before.of(tensor), shape.of(tensor))
        feeds |= {name: self._view(name, tensor, before, self._turn) for name, tensor in program.state.items()}
        rows = groups[:, None] * shape.group_rows + np.arange(shape.group_rows)
        feeds |= {"groups.from": groups, "rows.from": rows.ravel()}
        self._reserve(shape)
        self.shape, self._turn = shape, 1 - self._turn
        self._run(program.reshape, feeds)

    def join(self, encoded: Encoded, slots: Int64, sources: Int64) -> None:
        """Let group `slots[i]` hold encoded source `sources[i]`."""
        program, size = self._program, self.shape.group_rows
        feeds: dict[str, View | NDArray[Any]] = {f"{name}.new": view for name, view in encoded.memory.items()}
        feeds |= {f"{name}.new": view for name, view in encoded.state.items()}
        for name, tensor in program.memory.items():
            feeds[name] = self._view(name, tensor, self.shape)
            rows = encoded.memory[name].shape[:1]
            feeds[f"{name}.pads"] = _pads(encoded.memory[name].shape, rows + self.shape.of(tensor)[1:])
        feeds |= {name: self._view(name, tensor, self.shape, self._turn) for name, tensor in program.state.items()}
        feeds |= {"groups.from": sources, "groups.to": slots[:, None], "rows.from": sources.repeat(size)}
        feeds["rows.to"] = (slots[:, None] * size + np.arange(size)).reshape(-1, 1)
        self._run(program.join, feeds)

    def move(self, to: Int64, taken: Int64) -> None:
        """Let the rows `to` hold the state and caches that the rows `taken` held."""
        if self._program.move is None:
            return
        feeds: dict[str, View | NDArray[Any]] = {"rows.to": to[:, None], "rows.from": taken}
        for name, tensor in self._program.state.items():
            feeds[name] = self._view(name, tensor, self.shape, self._turn)
        for name, tensor in self._program.caches.items():
            feeds[name] = self._view(name, tensor, self.shape)
        self._run(self._program.move, feeds)

    def feed(self, tokens: Int64) -> None:
        """Set the tokens that the next step reads, for all slots of the shape."""
        self._upload(f"{TOKENS}{self._turn}", tokens)

    def age(self, lengths: Int64) -> None:
        """Set how many tokens each row's caches hold, for all slots of the shape."""
        self._upload(LENGTHS, lengths)

    def launch(self, k: int, attention: bool) -> None:
        """Let the device advance all slots."""
        binding, self._leaving = self.prepared(self._turn, k, attention and self._program.attention is not None)
        self._device.run(binding)
        self._turn = 1 - self._turn

    def collect(self) -> Left:
        """Wait for what the step that was launched gives."""
        log_probs, ids, *weights = self._device.fetch(self._leaving)
        return Left(log_probs, ids, weights[0] if weights else None)

    def record(self, graph: int) -> None:
        """Run a step for the first time, as the most frequent kind: the best id of each row, without attention."""
        binding, _ = self.prepared(self._turn, 1, attention=False, graph=graph)
        self._device.run(binding)
        self._turn = 1 - self._turn

    def prepared(self, turn: int, k: int, attention: bool, graph: int = UNCAPTURED) -> tuple[Binding, list[View]]:
        """Return the run of a step in this shape, and what it leaves: made once, then used again."""
        key = self.shape, turn, k, attention
        if key not in self.steps:
            self.steps[key] = self._prepare(turn, k, attention, graph)
        return self.steps[key]

    def _prepare(self, turn: int, k: int, attention: bool, graph: int) -> tuple[Binding, list[View]]:
        program, shape = self._program, self.shape
        feeds: dict[str, View | NDArray[Any]] = {TOKENS: View(self._blocks[f"{TOKENS}{turn}"], (shape.rows,))}
        feeds["k"] = np.array([k])
        left = {"log_probs": self._output("log_probs", k), "ids": self._chosen(1 - turn, k)}
        if attention and program.attention:
            left[program.attention] = self._output(program.attention, k)
        kept: dict[str, View] = {}
        for name, tensor in program.memory.items():
            feeds[name] = self._view(name, tensor, shape)
        for name, tensor in program.state.items():
            feeds[name] = self._view(name, tensor, shape, turn)
            kept[program.written[name]] = self._view(name, tensor, shape, 1 - turn)
        for name, tensor in program.caches.items():
            feeds[name] = kept[program.written[name]] = self._view(name, tensor, shape)
            feeds[LENGTHS] = View(self._blocks[LENGTHS], (shape.rows,))
        return self._device.bind(program.step, feeds, left | kept, graph), list(left.values())

    def _run(self, session: Session, feeds: Mapping[str, View | NDArray[Any]]) -> None:
        """Run a graph that moves rows: it writes `NAME.out` where `NAME` lies now."""
        tensors = self._program.memory | self._program.caches
        places = {name: self._view(name, tensor, self.shape) for name, tensor in tensors.items()}
        state = self._program.state.items()
        places |= {name: self._view(name, tensor, self.shape, self._turn) for name, tensor in state}
        outputs = {f"{name}.out": view for name, view in places.items()}
        reads, writes = {node.name for node in session.get_inputs()}, {node.name for node in session.get_outputs()}
        self._device.run(
            self._device.bind(
                session,
                {name: feed for name, feed in feeds.items() if name in reads},
                {name: view for name, view in outputs.items() if name in writes},
            )
        )

    def _view(self, name: str, tensor: Tensor, shape: Shape, turn: int | None = None) -> View:
        return View(self._blocks[name if turn is None else f"{name}{turn}"], shape.of(tensor))

    def _output(self, name: str, k: int) -> View:
        """Return where a step leaves one of its outputs; what was prepared before has the place that it had."""
        shape = self.shape.of(self._program.outputs[name], k)
        return View(self._room(name, int(np.prod(shape)), self._program.outputs[name].dtype)[0], shape)

    def _chosen(self, turn: int, k: int) -> View:
        """Return where a step leaves its ids: one for each row is what the next step reads."""
        if k > 1:
            return self._output("ids", k)
        return View(self._blocks[f"{TOKENS}{turn}"], (self.shape.rows, 1))

    def _reserve(self, shape: Shape) -> None:
        """Have room for all that lasts from step to step: where it moves, steps are prepared anew. Or MemoryError."""
        needed = [(name, int(np.prod(shape.of(tensor))), tensor.dtype) for name, tensor in self._lasting()]
        needed += [(name, shape.rows, "int64") for name in (f"{TOKENS}0", f"{TOKENS}1", LENGTHS)]
        for name, size, dtype in needed:
            if self._room(name, size, dtype)[1]:
                self.steps.clear()

    def _lasting(self) -> Iterator[tuple[str, Tensor]]:
        program = self._program
        twice = ((f"{name}{turn}", tensor) for name, tensor in program.state.items() for turn in (0, 1))
        return itertools.chain(program.memory.items(), program.caches.items(), twice)

    def _room(self, name: str, size: int, dtype: str) -> tuple[Block, bool]:
        """Return a block that is large enough, and whether it takes the place of one that was not."""
        before = self._blocks.get(name)
        if before is not None and before.size >= size:
            return before, False
        self._blocks[name] = grown = self._device.block(size, dtype)
        if before is not None:
            self._device.give_back(before)
        return grown, before is not None

    def _upload(self, name: str, values: Int64) -> None:
        block = self._blocks[name]
        staged = np.zeros(block.size, np.int64)
        staged[: len(values)] = values
        self._device.upload(block, staged)


def _pads(before: tuple[int, ...], after: tuple[int, ...]) -> Int64:
    """Return what ONNX's Pad takes to lengthen, or shorten, all axes but the first at their ends."""
    grown = [new - old for old, new in zip(before, after, strict=True)]
    return np.array([0] * len(before) + [0, *grown[1:]])
