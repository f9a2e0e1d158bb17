"""The application: its addresses, its documentation, and how it refuses."""

import importlib.metadata
import importlib.util
from typing import TYPE_CHECKING, Any

from msa_jax.errors import MsaJaxError, RunError
from msa_jax.files import as_json
from msa_jax.serve import batcher, openapi, page
from msa_jax.serve.limits import HEADERS, Guard, Limits, Refused
from msa_jax.serve.origin import SameOrigin
from msa_jax.serve.scorer import Scorer
from msa_jax.serve.service import Service

if TYPE_CHECKING:  # an extra
    from fastapi import FastAPI, Response


def require() -> None:
    """Raises RunError where the extra is not installed."""
    for package in ("fastapi", "uvicorn", "python_multipart"):
        if importlib.util.find_spec(package) is None:
            raise RunError("msa-jax serve needs the extra: pip install 'msa_jax[serve]'.")


def create_app(
    scorer: Scorer, limits: Limits | None = None, rows: int = batcher.ROWS, local: bool = False
) -> "FastAPI":
    """The application for one model, which should be warm, see :func:`msa_jax.serve.batcher.warm_up`.

    Args:
      scorer: the model; with a method ``score_media`` it also takes media files.
      limits: of a request.
      rows: how many clips of a call of the model at most, as in the warm-up.
      local: whether only this machine reaches the server, see :class:`~msa_jax.serve.origin.SameOrigin`.

    Returns:
      An ASGI application. Everything that it refuses has the body ``{"error": SENTENCE}``.
    """
    from fastapi import FastAPI

    limits = limits or Limits()
    service = Service(scorer, limits, rows)
    app = FastAPI(
        title=f"msa_jax: {service.model['model']}",
        version=importlib.metadata.version("msa_jax"),
        docs_url=None,  # both would fetch scripts from elsewhere; /docs is a page of ours
        redoc_url=None,
    )
    app.state.service = service
    app.add_middleware(Guard, limits=limits)
    app.add_middleware(SameOrigin, local=local)  # added last, it is asked first
    _refusals(app)
    _predictions(app, service, limits)
    _pages(app, service)
    return app


def _predictions(app: "FastAPI", service: Service, limits: Limits) -> None:
    """The addresses that take clips."""
    from fastapi import Request, Response

    @app.post("/predict", **openapi.predict(service.model))
    async def predict(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            return _answer(await service.upload(request))
        if kind != "application/json":
            raise Refused("send features as application/json, or a file as multipart/form-data.", 415)
        return _answer(await service.one(request))

    @app.post("/predict/batch", **openapi.batch(service.model, limits))
    async def predict_batch(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused("send features as application/json.", 415)
        return _answer(await service.many(request))


def _pages(app: "FastAPI", service: Service) -> None:
    """The addresses that are read."""
    from fastapi import Response

    def shown(made: page.Page) -> Response:
        headers = {**HEADERS, "content-security-policy": made.policy, "permissions-policy": page.PERMISSIONS}
        return Response(made.html, media_type="text/html", headers=headers)

    @app.get("/health", **openapi.HEALTH)
    async def health() -> Response:
        return _answer({"status": "ok", "waiting": len(service.batcher)})

    @app.get("/spec", **openapi.SPEC)
    async def spec() -> Response:
        return _answer(service.spec())

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return shown(page.index())

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return shown(page.docs(app.openapi()))


def _answer(content: Any) -> "Response":
    from fastapi import Response

    return Response(as_json(content), media_type="application/json", headers=HEADERS)


def _refusals(app: "FastAPI") -> None:
    """Answers every mistake of a client with one sentence, and mistakes of ours with another."""
    from fastapi import Request, Response
    from starlette.exceptions import HTTPException

    def refusal(sentence: str, status: int) -> Response:
        content = as_json({"error": sentence})
        return Response(content, status, media_type="application/json", headers=HEADERS)

    async def refused(_: Request, error: Exception) -> Response:
        return refusal(str(error), error.status if isinstance(error, Refused) else 400)

    async def unknown(request: Request, error: Exception) -> Response:
        status = int(getattr(error, "status_code", 500))
        sentences = {
            404: "there is nothing at this address; /docs lists what there is.",
            405: f"this address does not take {request.method}; /docs says what it takes.",
        }
        detail = str(getattr(error, "detail", "")).rstrip(".")
        return refusal(sentences.get(status, f"the request cannot be read: {detail}."), status)

    async def failed(_: Request, __: Exception) -> Response:
        return refusal("the server failed at this request; its own output says more.", 500)

    app.add_exception_handler(MsaJaxError, refused)
    app.add_exception_handler(HTTPException, unknown)
    app.add_exception_handler(Exception, failed)
