"""FastAPI: one request, one revision, one unit. Run: `uvicorn examples.service:app`, or gunicorn with workers and --preload."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator  # noqa: TC003 - FastAPI reads the annotations
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI

from examples.settings import Checkout, live, ranker
from livecfg import View
from livecfg.contrib.asgi import LivecfgMiddleware


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001 - FastAPI's signature
    async with live:
        yield


async def unit(user: str) -> View[Checkout]:
    return live.current.view({"targetingKey": user, "user": {"id": user, "plan": "pro"}})


app = FastAPI(lifespan=lifespan)
app.add_middleware(LivecfgMiddleware, live=live)
Unit = Annotated[View[Checkout], Depends(unit)]


def rank(user: str, model: str, timeout_s: float) -> list[str]:
    """Stands for the call of a model server."""
    return [f"{model}-for-{user}"] if timeout_s > 0 else []


@app.get("/cart/{user}")
def cart(user: str, view: Unit) -> dict[str, object]:
    with view.measure("request"):
        backend = view.flag("cart-backend", "stable")
        arm = ranker(view)  # arm.name "v9", arm.value: Ranker
        items = rank(user, arm.value.model, timeout_s=view.config.payment_timeout_s)
        return {"backend": backend, "ranker": arm.name, "items": items}


@app.get("/-/config")
def config() -> dict[str, object]:
    status = live.status
    return {"pid": os.getpid(), "condition": status.condition, "reason": status.reason, "applied": str(status.applied)}
