"""Rounds of faultwise's adapters over Flower: sites tune, what they changed is averaged exactly.

What travels is B A of each layer, never A and B apart, whose means would multiply to something that
no site learned; and no capture, no text. The averaging is Flower's own FedAvg. See README.md.
"""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"  # before flwr is imported

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from safetensors.numpy import load_file, save_file

WEIGHTS, CONFIG, CARD = "adapter_model.safetensors", "adapter_config.json", "card.json"
FAMILY = "flower"

site = ClientApp()
server = ServerApp()


# ---- An adapter as what it adds to each weight, and back ----


def read_changes(adapter: Path) -> dict[str, np.ndarray]:
    """What an adapter adds to each weight: alpha / r * B A."""
    shape = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    scale, parts = shape["lora_alpha"] / shape["r"], load_file(adapter / WEIGHTS)
    return {
        name.removesuffix(".lora_A.weight"): scale * parts[name.replace("lora_A", "lora_B")] @ down
        for name, down in parts.items()
        if name.endswith(".lora_A.weight")
    }


def write_changes(changes: dict[str, np.ndarray], like: Path, out: Path) -> None:
    """Write an adapter that adds these changes, as near as the rank of ``like`` allows; its
    configuration and card are that one's."""
    shape = json.loads((like / CONFIG).read_text(encoding="utf-8"))
    rank, scale = shape["r"], shape["lora_alpha"] / shape["r"]
    parts = {}
    for name, change in changes.items():
        left, strength, right = np.linalg.svd(change / scale, full_matrices=False)
        kept = min(rank, len(strength))
        up, down = np.zeros((len(change), rank)), np.zeros((rank, change.shape[1]))
        root = np.sqrt(strength[:kept])
        up[:, :kept], down[:kept] = left[:, :kept] * root, root[:, None] * right[:kept]
        parts[f"{name}.lora_A.weight"] = down.astype(np.float32)
        parts[f"{name}.lora_B.weight"] = up.astype(np.float32)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    save_file(parts, out / WEIGHTS, {"format": "pt"})
    for file in (CONFIG, CARD):
        shutil.copyfile(like / file, out / file)


# ---- At a site ----


@site.train()
def tune(message: Message, context: Context) -> Message:
    """Tune from what was merged last, and answer with what the adapter changes now."""
    node = context.node_config
    name = str(node.get("site", f"site-{node.get('partition-id', 0)}"))
    home = Path(str(node.get("home", os.environ.get("FAULTWISE_HOME", "home")))) / name
    data = Path(str(node.get("data", os.environ.get("FAULTWISE_DATA", "data"))))
    data = data / name if "data" not in node else data
    adapter = home / "adapters" / name / FAMILY
    faultwise = str(node.get("faultwise", os.environ.get("FAULTWISE", "faultwise")))
    words = [*shlex.split(faultwise), "finetune", "sft", "--home", str(home), "--site", name]
    words += ["--base", str(node.get("base", os.environ.get("FAULTWISE_BASE", "base")))]
    words += ["--data", str(data), "--family", FAMILY, "--replace"]
    if adapter.is_dir():
        merged = {name: one.numpy() for name, one in message.content["arrays"].items()}
        # Beside the adapter: the card names the base from its own folder.
        begin = adapter.with_name(".merged")
        write_changes(merged, adapter, begin)
        words += ["--begin", str(begin)]
    words += shlex.split(str(context.run_config["options"]))
    subprocess.run(words, check=True)  # noqa: S603  a list of arguments; no shell
    changes = read_changes(adapter)
    held = json.loads((adapter / CARD).read_text(encoding="utf-8"))["metrics"]["held_out.loss"]
    content = RecordDict(
        {
            "arrays": ArrayRecord({k: Array(v.astype(np.float32)) for k, v in changes.items()}),
            "metrics": MetricRecord({"held_out_loss": float(held), "num-examples": 1}),
        }
    )
    return Message(content=content, reply_to=message)


# ---- Where it is merged ----


@server.main()
def merge(grid: Grid, context: Context) -> None:
    """Let all sites tune, average what they changed, and begin again from there."""
    strategy = FedAvg(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=2)
    nothing = ArrayRecord({"nothing": Array(np.zeros(1, np.float32))})
    rounds = int(context.run_config["rounds"])
    done = strategy.start(grid=grid, initial_arrays=nothing, num_rounds=rounds)
    out = os.environ.get("FAULTWISE_MERGED", "merged.safetensors")
    save_file({name: one.numpy() for name, one in done.arrays.items()}, out)
