"""How the page looks wherever it is mounted: system fonts, no analytics, nothing fetched from elsewhere."""

from pathlib import Path
from typing import Any

import gradio as gr


def mount_options() -> dict[str, Any]:
    """What ``gradio.mount_gradio_app`` needs: looks, keys, bounds, and nothing from outside."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Liberation Sans", "sans-serif"]
    mono = ["ui-monospace", "Liberation Mono", "monospace"]
    beside = Path(__file__).parent
    return {
        "ssr_mode": False,
        "pwa": False,
        "enable_monitoring": False,
        "footer_links": [],
        "max_file_size": "200mb",
        "theme": gr.themes.Base(
            primary_hue="slate", neutral_hue="slate", font=fonts, font_mono=mono
        ),
        "css_paths": beside / "app.css",
        "js": (beside / "app.js").read_text(encoding="utf-8"),
    }
