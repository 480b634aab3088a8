"""An operator's client: asks a server to hold other models."""

from dragoman.v1 import models_pb2 as pb
from dragoman.v1 import models_pb2_grpc
from service.rpc.channel import Connection
from service.rpc.client import Client


class Operator(Client):
    """A connection to the operator's socket of one server. Every method returns rows of terminal.STATE_COLUMNS."""

    def __init__(self, connection: Connection, timeout: float) -> None:
        """Take the way to the socket and the time that a call may take, in seconds; raises StartupError."""
        super().__init__(connection, timeout)
        self._operations = models_pb2_grpc.ModelServiceStub(self._channel)

    def states(self) -> list[list[str]]:
        """List all versions; raises ClientError."""
        with self._explained():
            answer = self._operations.ListModels(pb.ModelServiceListModelsRequest(), timeout=self._timeout)
        return _rows([*answer.models])

    def load(self, model: str) -> list[list[str]]:
        """Hold a model too; raises ClientError."""
        with self._explained():
            return _rows([*self._operations.LoadModel(pb.LoadModelRequest(model=model), timeout=self._timeout).models])

    def unload(self, model: str) -> list[list[str]]:
        """Hold a model no more; raises ClientError."""
        with self._explained():
            answer = self._operations.UnloadModel(pb.UnloadModelRequest(model=model), timeout=self._timeout)
        return _rows([*answer.models])

    def reload(self) -> list[list[str]]:
        """Hold what the settings want of the repository as it is now; raises ClientError."""
        with self._explained():
            return _rows([*self._operations.ReloadModels(pb.ReloadModelsRequest(), timeout=self._timeout).models])


def _rows(models: list[pb.ModelStatus]) -> list[list[str]]:
    return [
        [
            model.name,
            model.version,
            pb.ModelState.Name(model.state).removeprefix("MODEL_STATE_"),
            str(model.calls),
            f"{model.estimated_bytes / 1e6:.0f}",
            model.reason or "-",
        ]
        for model in models
    ]
