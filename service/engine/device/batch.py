"""Where the rows of a model are kept: in this process, or on the device that the model is on."""

from service.engine.batch import Batch
from service.engine.device.model import DeviceModel
from service.engine.lane import HostLanes
from service.engine.session import Model

AnyModel = Model | DeviceModel


def open_batch(model: AnyModel) -> Batch:
    """Return a batch without rows."""
    return Batch(model if isinstance(model, DeviceModel) else HostLanes(model))
