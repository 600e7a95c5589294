"""How the page is served: to this machine, with nothing from elsewhere.

Nothing is fetched: system fonts, no analytics, and a content policy that makes the browser refuse.
"""

from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from assistant.api.guard import LOCAL

ADDRESS = "127.0.0.1"
UPLOAD = "200mb"
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "worker-src 'self' blob:; frame-ancestors 'none'"
)
_HEADERS = {
    b"content-security-policy": _POLICY.encode(),
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}


def launch_options() -> dict[str, Any]:
    """How the page is served alone: to this machine, without share links, API pages or anything
    fetched from outside."""
    # A page on another site could reach this one by a name that resolves to loopback: only our own
    # names are served.
    guards = [
        Middleware(TrustedHostMiddleware, allowed_hosts=[ADDRESS, "localhost"]),
        Middleware(Sealed),
        Middleware(OwnMachine),
    ]
    return {
        "server_name": ADDRESS,
        "share": False,
        "app_kwargs": {"middleware": guards},
        **mount_options(),
    }


def mount_options() -> dict[str, Any]:
    """What ``gradio.mount_gradio_app`` and ``launch`` need alike: looks, keys, and nothing from
    outside. Who mounts the page adds ``Sealed`` to his own app."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Liberation Sans", "sans-serif"]
    mono = ["ui-monospace", "Liberation Mono", "monospace"]
    beside = Path(__file__).parent
    return {
        "ssr_mode": False,
        "pwa": False,
        "enable_monitoring": False,
        "footer_links": [],
        "max_file_size": UPLOAD,
        "theme": gr.themes.Base(
            primary_hue="slate", neutral_hue="slate", font=fonts, font_mono=mono
        ),
        "css_paths": beside / "app.css",
        "js": (beside / "app.js").read_text(encoding="utf-8"),
    }


class Sealed:
    """Tell the browser on every answer that nothing but this page may be loaded (CSP level 3,
    W3C)."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sealed(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS.items()]
            await send(message)

        await self._app(scope, receive, sealed)


class OwnMachine:
    """Whoever uses the page where it is served alone is this machine's operator and engineer."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope.setdefault("state", {})["person"] = LOCAL
        await self._app(scope, receive, send)
