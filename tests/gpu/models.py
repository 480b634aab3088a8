"""Bundles, opened for the engine in the ways that are compared."""

import dataclasses
from typing import NamedTuple

import msgspec

from service.bundle import Bundle
from service.engine.device.batch import AnyModel
from service.engine.device.model import DeviceModel, Wishes
from service.engine.runtime.memory import open_device
from service.engine.runtime.ort import Target
from service.engine.session import OnnxModel
from tests.gpu.plan import Plan

ALL_SHAPES = 1000
NEVER = -1
"""An end symbol that no row chooses."""


class Mode(NamedTuple):
    """A way of running the step."""

    name: str
    prepared: int | None
    """Buckets that are captured as CUDA graphs; None: all that a step carries lies in this process's memory."""


def modes_of(plan: Plan) -> list[Mode]:
    """Return the ways that there are with a provider."""
    if plan.provider == "cpu":
        return [Mode("host path", None), Mode("device path", 0)]
    return [Mode("no CUDA graphs", 0), Mode("CUDA graphs", ALL_SHAPES)]


def open_model(loaded: Bundle, plan: Plan, mode: Mode) -> AnyModel:
    """Return what an engine is given; its rows never end by themselves."""
    sizes = plan.sizes
    limits = msgspec.structs.replace(
        loaded.manifest.decoding, max_source_tokens=sizes.source_tokens, max_target_tokens=sizes.target_tokens
    )
    narrowed = msgspec.structs.replace(loaded.manifest, decoding=limits)  # so that few buckets hold all that comes
    endless = msgspec.structs.replace(narrowed, tokenizer=msgspec.structs.replace(narrowed.tokenizer, end_id=NEVER))
    given = dataclasses.replace(loaded, manifest=narrowed)
    model: AnyModel
    if mode.prepared is None:
        model = OnnxModel.load(given, plan.provider)
    else:
        model = DeviceModel.load(given, open_device(Target(plan.provider)), Wishes(max(sizes.rows), mode.prepared))
        model.record()  # on this thread, which steps by hand
    model.manifest = endless
    return model
