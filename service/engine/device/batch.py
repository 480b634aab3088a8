"""Where the rows of a model are kept: in this process, or on the device that the model is on."""

from service.engine.batch import Batch
from service.engine.device.model import DeviceModel
from service.engine.lane import HostLanes
from service.engine.session import Model

AnyModel = Model | DeviceModel


def settle(model: AnyModel) -> None:
    """Do what has to be done on the thread that will run a model, before it does."""
    if isinstance(model, DeviceModel):
        model.record()


def open_batch(model: AnyModel) -> Batch:
    """Return a batch without rows."""
    return Batch(model if isinstance(model, DeviceModel) else HostLanes(model))
