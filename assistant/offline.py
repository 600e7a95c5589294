"""Keep every library on this machine: no model hub, no telemetry, no analytics.

Libraries read these variables when they are imported, so this module imports none of them and its
one function runs first in every entry point.
"""

import logging
import os
import warnings

FLAGS: dict[str, str] = {
    # Hugging Face: nothing is looked up, nothing is reported.
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "USE_HUB_KERNELS": "NO",
    "TOKENIZERS_PARALLELISM": "false",
    # Gradio, Chroma (PostHog, OpenTelemetry), LangChain (LangSmith), trl (trackio, wandb).
    "GRADIO_ANALYTICS_ENABLED": "False",
    "ANONYMIZED_TELEMETRY": "False",
    "CHROMA_TELEMETRY_IMPL": "none",
    "OTEL_SDK_DISABLED": "true",
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "WANDB_MODE": "disabled",
    "TRACKIO_DISABLED": "1",
    "DO_NOT_TRACK": "1",
    # Nothing is compiled at a plant, whose machines lack a compiler; bitsandbytes would load
    # torch's for a second.
    "TORCHDYNAMO_DISABLE": "1",
    # A proxy would carry even loopback calls away.
    "NO_PROXY": "*",
    "no_proxy": "*",
}


def go_offline() -> None:
    """Set every flag, whatever the environment says: a plant's machine may inherit anything."""
    os.environ.update(FLAGS)


def hush_libraries() -> None:
    """Keep libraries' warnings to their developers from an operator's screen."""
    warnings.simplefilter("ignore", FutureWarning)
    for library in ("bitsandbytes", "transformers", "sentence_transformers"):
        logging.getLogger(library).setLevel(logging.ERROR)
