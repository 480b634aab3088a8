"""A bundle's graphs on a device, where everything stays but the ids that are asked and the ones that are chosen."""

import dataclasses
import itertools
import logging
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from service.bundle import Bundle, Manifest
from service.engine.device import prepare
from service.engine.device.arena import Arena, Program
from service.engine.device.lane import DeviceLane
from service.engine.device.prepare import CAPTURE, MAX_SHAPES, Prepared
from service.engine.device.shapes import FIRST_WIDTH, Buckets, Shape
from service.engine.lane import Rows
from service.engine.runtime.memory import UNCAPTURED, Device, View
from service.engine.runtime.ort import Session, Target
from service.engine.session import Encoded, open_graph
from service.errors import BundleError
from service.request import Int64

logger = logging.getLogger(__name__)

RUN_PRICE = 1 << 40
"""What one more run per step costs on a device, in padded positions: rows of one width of beam share a lane."""


class Wishes(NamedTuple):
    """How a model is put on a device."""

    max_rows: int = 64
    prepared: int = MAX_SHAPES
    """Buckets that are prepared, and captured where that works; 0: none."""
    max_bytes: float = math.inf
    """Memory for all that rows have; the weights come on top."""
    engines: Path | None = None
    """Where TensorRT keeps the engines that it builds; None: it builds them at every start."""


class DeviceModel:
    """The graphs of a bundle on one device, and the arenas that its lanes work in. Belongs to the engine thread."""

    def __init__(self, bundle: Bundle, device: Device, sessions: tuple[Session, Session], max_rows: int) -> None:
        """Store what it is made of; `sessions` are encoder and step."""
        self.manifest: Manifest = bundle.manifest
        self.device = device
        self.provider = device.target.provider
        self.start_id = bundle.manifest.tokenizer.start_id
        self.run_price = RUN_PRICE
        self.wanted: tuple[Shape, ...] = ()
        """Buckets to prepare."""
        self.uncaptured = "nothing was asked for"
        """Why no CUDA graph records them; empty where they do."""
        self.prepared = Prepared((), self.uncaptured)
        self._bundle = bundle
        self._encoder, step = sessions
        self._program = Program.of(bundle, device, step)
        self._buckets = Buckets.of(bundle.manifest, max_rows)
        self._free: list[Arena] = []

    @classmethod
    def load(cls, bundle: Bundle, device: Device, wishes: Wishes) -> "DeviceModel":
        """Open the graphs on a device and run them; raises BundleError where they are not what they should be."""
        manifest, target = bundle.manifest, device.target
        buckets = Buckets.of(manifest, wishes.max_rows)
        shapes = prepare.choose(buckets, manifest, wishes.prepared, device.limit)
        targets = [target, target]
        if target.provider == "tensorrt" and shapes and wishes.engines:
            graphs = manifest.encoder, manifest.decoder_step
            options = (prepare.tensorrt_options(graph, shapes, wishes.engines) for graph in graphs)
            targets = [dataclasses.replace(target, options=given) for given in options]
        encoder = open_graph(bundle, manifest.encoder, targets[0])
        step, reason = _open_step(bundle, targets[1], shapes)
        model = cls(bundle, device, (encoder, step), wishes.max_rows)
        model.wanted, model.uncaptured = shapes, reason
        model.warm_up()
        return model

    def warm_up(self) -> None:
        """Encode and step once, so that graphs that cannot run are found before they are asked to."""
        arena = Arena(self.device, self._program)
        tried = self._buckets.fit(Shape(2, 1, 2, 1 if self.manifest.caches else 0))
        try:
            prepare.run_all(arena, (tried,), self._sample, self.start_id, itertools.repeat(UNCAPTURED))
            arena.launch(1, attention=True)
            arena.collect()
        except Exception as error:
            raise BundleError(f"the bundle's graphs do not run ({error}); export and verify it again") from error

    def record(self) -> None:
        """Run steps in all buckets that are wanted, on the thread that will run them ever after, and say what is ready.

        The runtime keeps CUDA graphs for the thread that recorded them. Where one cannot be, none is.
        """
        shapes, reason = self.wanted, self.uncaptured
        arena = Arena(self.device, self._program)
        graphs = itertools.repeat(UNCAPTURED) if reason else itertools.count(1)
        try:
            prepare.run_all(arena, shapes, self._sample, self.start_id, graphs)
            self.device.fetch([])  # wait: what fails late must fail here
        except Exception as error:  # noqa: BLE001  whatever it is, steps run without having been prepared
            shapes, reason = (), _first_line(error)
            arena.free()
            self._program = self._program._replace(step=self._plain_step())
        else:
            arena.ready = True
            self._free.append(arena)
        self._bundle = dataclasses.replace(self._bundle, contents={})  # the runtime has the weights now
        self.prepared = Prepared(shapes, reason)
        where, taken = self.device.target, self.device.bytes / 1e6
        how = f"{self.prepared.line()}; {self.device.order}"
        logger.info("%s on %s: %s; %.1f MB for rows", self._bundle.name, where, how, taken)

    def encode(self, source_ids: Int64, source_lengths: Int64) -> Encoded:
        """Encode `[row, source]` ids, padded behind `source_lengths` `[row]`; what that gives stays on the device."""
        rows, width = source_ids.shape
        shape = self._buckets.fit(Shape(rows, 1, max(width, FIRST_WIDTH), 0))
        ids = np.full((shape.groups, shape.width), self.manifest.tokenizer.pad_id, np.int64)
        ids[:, :width] = source_ids[0]
        ids[:rows, :width] = source_ids
        lengths = np.full(shape.groups, source_lengths[0])
        lengths[:rows] = source_lengths
        views: dict[str, View] = {}
        feeds = {"source_ids": ids, "source_lengths": lengths}
        try:
            for tensor in self.manifest.encoder.outputs:
                dims = shape.of(tensor)
                views[tensor.name] = View(self.device.block(int(np.prod(dims)), tensor.dtype), dims)
            self.device.run(self.device.bind(self._encoder, feeds, views))
        finally:
            for view in views.values():
                self.device.give_back(view.block)  # freed when those who join have been copied
        state = {name: views[name] for name in self._program.state}
        return Encoded({name: views[name] for name in self._program.memory}, state)

    def open(self, group_rows: int) -> DeviceLane:
        """Return a lane without rows, in an arena that nobody uses: a prepared one, while there is one."""
        self._free.sort(key=lambda arena: arena.ready)
        arena = self._free.pop() if self._free else Arena(self.device, self._program)
        return DeviceLane(arena, self._buckets, group_rows)

    def close(self, lane: Rows) -> None:
        """Take back the arena of a lane that nobody is in."""
        if isinstance(lane, DeviceLane):
            self._free.append(lane.arena)

    def _plain_step(self) -> Session:
        return open_graph(self._bundle, self.manifest.decoder_step, self.device.target)

    def _sample(self, width: int) -> Encoded:
        end_id = self.manifest.tokenizer.end_id
        return self.encode(np.full((1, width), end_id, np.int64), np.array([1]))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [repr(error)])[0][:300]


def _open_step(bundle: Bundle, target: Target, shapes: tuple[Shape, ...]) -> tuple[Session, str]:
    """Open the step such that its runs are recorded; where that cannot be, without, and return why in a line."""
    graph = bundle.manifest.decoder_step
    if target.provider != "cuda" or not shapes:
        reason = "nothing was asked for" if target.provider == "cuda" else f"{target.provider} has none"
        return open_graph(bundle, graph, target), reason
    try:
        return open_graph(bundle, graph, dataclasses.replace(target, options={**target.options, **CAPTURE})), ""
    except BundleError as error:
        step = open_graph(bundle, graph, target)
        return step, _first_line(error.__cause__ or error)
