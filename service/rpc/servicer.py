"""dragoman.v1.TranslationService: each method is three lines of proto to domain and back."""

import grpc

from dragoman.v1 import translation_pb2 as pb
from service.catalog import Catalog
from service.rpc import convert
from service.rpc.border import Border, Call
from service.translator import Translator

SERVICE: str = pb.DESCRIPTOR.services_by_name["TranslationService"].full_name


class TranslationServicer:
    """Answers with the models of a catalog."""

    def __init__(self, catalog: Catalog, translator: Translator) -> None:
        self._catalog = catalog
        self._translator = translator

    async def translate(self, request: pb.TranslateRequest, call: Call) -> pb.TranslateResponse:
        """Translate one or many texts."""
        line = call.line
        line.texts = len(request.texts)
        served = self._catalog.find(request.model, request.source_language_code, request.target_language_code)
        line.model = served.name
        result = await self._translator.translate(served, convert.job(request, call))
        timing = result.timing
        line.source_tokens, line.target_tokens = result.source_tokens, result.target_tokens
        line.queue_ms = round(timing.queue * 1e3, 3)
        line.encode_ms = round(timing.encode * 1e3, 3)
        line.decode_ms = round(timing.decode * 1e3, 3)
        line.steps = timing.steps
        return convert.response(served, result)

    async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:  # noqa: ARG002
        """List all models."""
        return pb.ListModelsResponse(models=[convert.model(served) for served in self._catalog.models])

    async def get_model(self, request: pb.GetModelRequest, call: Call) -> pb.GetModelResponse:
        """Describe one model."""
        served = self._catalog.find(request.model)
        call.line.model = served.name
        return pb.GetModelResponse(model=convert.model(served))

    def handlers(self, border: Border) -> grpc.GenericRpcHandler:
        """Return the handlers of all methods, behind the border."""
        methods = {
            "Translate": border.unary(SERVICE, "Translate", pb.TranslateRequest, self.translate),
            "ListModels": border.unary(SERVICE, "ListModels", pb.ListModelsRequest, self.list_models),
            "GetModel": border.unary(SERVICE, "GetModel", pb.GetModelRequest, self.get_model),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)
