"""Where the rows of a model are kept: in this process, or on the device that the model is on."""

from service.engine.batch import Batch
from service.engine.device.lane import DeviceLane
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
    return DeviceBatch(model) if isinstance(model, DeviceModel) else Batch(HostLanes(model))


class DeviceBatch(Batch):
    """A batch on a device, which is given the steps of all lanes before the first of them is waited for."""

    def __init__(self, model: DeviceModel) -> None:
        super().__init__(model)
        self._device = model.device

    def launch(self, k: int, attention: bool) -> bool:
        """Let the device begin a step over all rows; return whether it goes on while this thread does."""
        for lane in self._lanes:
            if isinstance(lane, DeviceLane):
                lane.launch(k, attention)
        return self._device.late
