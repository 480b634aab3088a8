"""dragoman.v1.ModelService: the operator's requests to the model manager and back."""

import grpc

from dragoman.v1 import models_pb2 as pb
from service.errors import InvalidRequestError
from service.holding import Holding, State
from service.model_manager import ModelManager
from service.rpc.border import Border, Call
from service.versions import EVERY, Pin

SERVICE: str = pb.DESCRIPTOR.services_by_name["ModelService"].full_name
STATES = {
    State.LOADING: pb.MODEL_STATE_LOADING,
    State.READY: pb.MODEL_STATE_READY,
    State.DRAINING: pb.MODEL_STATE_DRAINING,
    State.FAILED: pb.MODEL_STATE_FAILED,
}


class ModelServicer:
    """Lets an operator change what a server holds."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager

    async def load_model(self, request: pb.LoadModelRequest, call: Call) -> pb.LoadModelResponse:  # noqa: ARG002
        """Hold a model too."""
        pin = _pin(request.model)
        return pb.LoadModelResponse(models=[_status(one) for one in await self._manager.load(pin)])

    async def unload_model(self, request: pb.UnloadModelRequest, call: Call) -> pb.UnloadModelResponse:  # noqa: ARG002
        """Hold a model no more."""
        pin = _pin(request.model)
        whole = Pin(pin.name) if pin.version == EVERY else pin
        return pb.UnloadModelResponse(models=[_status(one) for one in await self._manager.unload(whole)])

    async def reload_models(self, request: pb.ReloadModelsRequest, call: Call) -> pb.ReloadModelsResponse:  # noqa: ARG002
        """Hold what the settings want of the repository as it is now."""
        await self._manager.reload()
        return pb.ReloadModelsResponse(models=self._all())

    async def list_models(
        self, request: pb.ModelServiceListModelsRequest, call: Call  # noqa: ARG002
    ) -> pb.ModelServiceListModelsResponse:  # fmt: skip
        """List all versions and their states."""
        return pb.ModelServiceListModelsResponse(models=self._all())

    def handlers(self, border: Border) -> grpc.GenericRpcHandler:
        """Return the handlers of all methods, behind the border."""
        methods = {
            "LoadModel": border.unary(SERVICE, "LoadModel", pb.LoadModelRequest, self.load_model),
            "UnloadModel": border.unary(SERVICE, "UnloadModel", pb.UnloadModelRequest, self.unload_model),
            "ReloadModels": border.unary(SERVICE, "ReloadModels", pb.ReloadModelsRequest, self.reload_models),
            "ListModels": border.unary(SERVICE, "ListModels", pb.ModelServiceListModelsRequest, self.list_models),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _all(self) -> list[pb.ModelStatus]:
        return [_status(holding) for holding in self._manager.holdings]


def _pin(model: str) -> Pin:
    try:
        return Pin.parse(model)
    except ValueError as error:
        raise InvalidRequestError("model", str(error)) from error


def _status(holding: Holding) -> pb.ModelStatus:
    return pb.ModelStatus(
        name=holding.found.name,
        version=holding.found.version,
        state=STATES[holding.state],
        reason=holding.reason,
        estimated_bytes=holding.size,
        calls=0 if holding.served is None else len(holding.served.usage),
    )
