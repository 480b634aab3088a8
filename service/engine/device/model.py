"""A bundle's graphs on a device, where everything stays but the ids that are asked and the ones that are chosen."""

import logging

import numpy as np

from service.bundle import Bundle, Manifest
from service.engine.device.arena import Arena, Program
from service.engine.device.lane import DeviceLane
from service.engine.device.shapes import FIRST_WIDTH, Buckets, Shape
from service.engine.lane import Rows
from service.engine.runtime.memory import Device, View, open_device
from service.engine.runtime.ort import Session, Target
from service.engine.session import Encoded, open_graph
from service.errors import BundleError
from service.request import Int64

logger = logging.getLogger(__name__)

RUN_PRICE = 1 << 40
"""What one more run per step costs on a device, in padded positions: rows of one width of beam share a lane."""


class DeviceModel:
    """The graphs of a bundle on one device, and the arenas that its lanes work in. Belongs to the engine thread."""

    def __init__(self, bundle: Bundle, device: Device, sessions: tuple[Session, Session], max_rows: int) -> None:
        """Store what it is made of; `sessions` are encoder and step."""
        self.manifest: Manifest = bundle.manifest
        self.device = device
        self.provider = device.target.provider
        self.start_id = bundle.manifest.tokenizer.start_id
        self.run_price = RUN_PRICE
        self._encoder, step = sessions
        self._program = Program.of(bundle, device, step)
        self._buckets = Buckets.of(bundle.manifest, max_rows)
        self._free: list[Arena] = []

    @classmethod
    def load(cls, bundle: Bundle, target: Target, max_rows: int) -> "DeviceModel":
        """Open the graphs on a device and run them once; raises BundleError where they are not what they should be."""
        graphs = bundle.manifest.encoder, bundle.manifest.decoder_step
        encoder, step = (open_graph(bundle, graph, target) for graph in graphs)
        model = cls(bundle, open_device(target), (encoder, step), max_rows)
        model.warm_up()
        return model

    def warm_up(self) -> None:
        """Encode and step once, so that graphs that cannot run are found before they are asked to."""
        tokenizer = self.manifest.tokenizer
        lane = self.open(1)
        try:
            encoded = self.encode(np.full((2, 2), tokenizer.end_id, np.int64), np.array([2, 1]))
            lane.insert(encoded, np.array([2, 1]), np.arange(2), tokenizer.start_id)
            lane.advance(1, attention=True)
        except Exception as error:
            raise BundleError(f"the bundle's graphs do not run ({error}); export and verify it again") from error
        self.close(lane)

    def encode(self, source_ids: Int64, source_lengths: Int64) -> Encoded:
        """Encode `[row, source]` ids, padded behind `source_lengths` `[row]`; what that gives stays on the device."""
        rows, width = source_ids.shape
        shape = self._buckets.fit(Shape(rows, 1, max(width, FIRST_WIDTH), 0))
        ids = np.full((shape.groups, shape.width), self.manifest.tokenizer.pad_id, np.int64)
        ids[:, :width] = source_ids[0]
        ids[:rows, :width] = source_ids
        lengths = np.full(shape.groups, source_lengths[0])
        lengths[:rows] = source_lengths
        tensors = {tensor.name: tensor for tensor in self.manifest.encoder.outputs}
        views = {}
        for name, tensor in tensors.items():
            dims = shape.of(tensor)
            views[name] = View(self.device.block(int(np.prod(dims)), tensor.dtype), dims)
        feeds = {"source_ids": ids, "source_lengths": lengths}
        self.device.run(self.device.bind(self._encoder, feeds, views))
        for view in views.values():
            self.device.give_back(view.block)  # freed when those who join have been copied
        state = {name: views[name] for name in self._program.state}
        return Encoded({name: views[name] for name in self._program.memory}, state)

    def open(self, group_rows: int) -> DeviceLane:
        """Return a lane without rows, in an arena that nobody uses."""
        arena = self._free.pop() if self._free else Arena(self.device, self._program)
        return DeviceLane(arena, self._buckets, group_rows)

    def close(self, lane: Rows) -> None:
        """Take back the arena of a lane that nobody is in."""
        if isinstance(lane, DeviceLane):
            self._free.append(lane.arena)
