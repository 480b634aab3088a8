"""A bundle, ready to run where it is wanted: in this process's memory, or on devices, once on each."""

import logging
from collections.abc import Sequence

from service.bundle import Bundle
from service.engine.device.batch import AnyModel
from service.engine.device.model import DeviceModel, Wishes
from service.engine.runtime.memory import open_device
from service.engine.runtime.ort import Target
from service.engine.runtime.provider import Probe, pick_provider, why_not
from service.engine.session import OnnxModel
from service.errors import StartupError

logger = logging.getLogger(__name__)


def load_models(
    bundle: Bundle,
    provider: str,
    threads: int,
    devices: Sequence[int],
    wishes: Wishes,
    probe: Probe = why_not,
) -> list[AnyModel]:
    """Load a bundle once for each of these devices, and say in one line where, and why not elsewhere.

    Without a GPU the numbers are of no meaning: so many models share the processors. `auto` serves on the CPU what does
    not run on a GPU, whatever the reason. Raises StartupError.
    """
    models: list[AnyModel] = []
    for device in devices:
        picked, reason = pick_provider(provider, device, probe)
        target = Target(picked, device, threads)
        if picked != "cpu":
            try:
                models.append(DeviceModel.load(bundle, open_device(target, wishes.max_bytes), wishes))
            except StartupError as error:
                if provider != "auto":
                    raise
                target, reason = Target(), f"not on {target}: {str(error).splitlines()[0]}"
        if target.provider == "cpu":
            models.append(OnnxModel.load(bundle, "cpu", threads))
        logger.info("%s runs on %s: %s", bundle.name, target, reason)
    return models
