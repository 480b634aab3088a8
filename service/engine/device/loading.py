"""A bundle, ready to run where it is wanted: in this process's memory, or on devices, once on each."""

import logging
from collections.abc import Sequence

from service.bundle import Bundle
from service.engine.device.batch import AnyModel
from service.engine.device.model import DeviceModel, Wishes
from service.engine.runtime.ort import Target
from service.engine.runtime.provider import pick_provider
from service.engine.session import OnnxModel

logger = logging.getLogger(__name__)


def load_models(bundle: Bundle, provider: str, threads: int, devices: Sequence[int], wishes: Wishes) -> list[AnyModel]:
    """Load a bundle once for each of these devices, and say in one line where, and why not elsewhere.

    Without a GPU the numbers are of no meaning: so many models share the processors. Raises StartupError.
    """
    choices = [pick_provider(provider, device) for device in devices]
    models: list[AnyModel] = []
    for device, (picked, reason) in zip(devices, choices, strict=True):
        target = Target(picked, device, threads)
        logger.info("%s runs on %s: %s", bundle.name, target, reason)
        if picked == "cpu":
            models.append(OnnxModel.load(bundle, "cpu", threads))
        else:
            models.append(DeviceModel.load(bundle, target, wishes))
    return models
