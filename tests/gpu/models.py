"""Bundles, opened for the engine in the ways that are compared."""

import dataclasses
from typing import NamedTuple

import msgspec

from service.bundle import Bundle, Manifest
from service.engine.device.batch import AnyModel
from service.engine.device.model import DeviceModel, Wishes
from service.engine.runtime.memory import Device, open_device
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
    if mode.prepared is not None:
        return open_on(open_device(Target(plan.provider)), loaded, plan, mode.prepared)
    given, endless = _manifests(loaded, plan)
    model = OnnxModel.load(given, plan.provider)
    model.manifest = endless
    return model


def open_on(device: Device, loaded: Bundle, plan: Plan, prepared: int) -> DeviceModel:
    """Return a model on a device, with so many buckets prepared; its rows never end by themselves."""
    given, endless = _manifests(loaded, plan)
    model = DeviceModel.load(given, device, Wishes(max(plan.sizes.rows), prepared))
    model.record()  # on this thread, which steps by hand
    model.manifest = endless
    return model


def _manifests(loaded: Bundle, plan: Plan) -> tuple[Bundle, Manifest]:
    """Return the bundle with limits such that few buckets hold all that comes, and a manifest where nothing ends."""
    sizes = plan.sizes
    limits = msgspec.structs.replace(
        loaded.manifest.decoding, max_source_tokens=sizes.source_tokens, max_target_tokens=sizes.target_tokens
    )
    narrowed = msgspec.structs.replace(loaded.manifest, decoding=limits)
    endless = msgspec.structs.replace(narrowed, tokenizer=msgspec.structs.replace(narrowed.tokenizer, end_id=NEVER))
    return dataclasses.replace(loaded, manifest=narrowed), endless
