"""Two processes over gloo give the loss curve of one, and configurations are what accelerate reads."""

import json
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env
from labelled_folders import write_plants
from safetensors.torch import load_file
from test_finetune_sft import MANY, TEXTS
from tiny_bases import build_base
from typer.testing import CliRunner

from assistant.cli.main import app
from finetune.pace import find_checkpoint
from finetune.sft import Knobs, train
from finetune.spread import check_spread, train_spread
from traffic.errors import UserError

RECIPES = Path(__file__).parents[1] / "finetune" / "recipes"
CPU = RECIPES / "ddp-cpu.yaml"
KNOBS = Knobs(rank=8, epochs=2, batch=8, seed=1, learning_rate=1e-2)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    return build_base(tmp_path / "base", "llama")


def read_losses(work: Path) -> list[float]:
    """What was logged at each step, of training and held-out texts."""
    last = find_checkpoint(work)
    assert last is not None
    history = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return [one[name] for one in history for name in ("loss", "eval_loss") if name in one]


def test_two_processes_give_the_loss_curve_of_one(base, tmp_path):
    one, two = (tmp_path / name for name in ("one", "two"))
    alone = train(base, MANY, one / "out", one / "work", KNOBS, TEXTS)
    shared = train_spread(CPU, base, MANY, two / "out", two / "work", KNOBS, TEXTS)
    assert (shared.steps, shared.ended) == (alone.steps, alone.ended) == (24, "epochs")
    losses = read_losses(one / "work")
    assert len(losses) > 15
    assert losses[0] > 2 * losses[-1]  # something was learned
    # Sums of halves round otherwise than sums of wholes; bf16 where the processor has it.
    assert read_losses(two / "work") == pytest.approx(losses, rel=0.02)
    weights = [load_file(run / "out" / "adapter_model.safetensors") for run in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.isfinite(weight).all() for weight in weights[1].values())


def test_the_command_spreads_its_training_and_says_what_fails(base, tmp_path, home):
    data = write_plants(tmp_path / "data", (1, 2), hours=0.06)
    small = ["--plants", "0", "--per-label", "8", "--epochs", "1", "--batch", "8", "--rank", "4"]
    words = ["--base", str(base), "--data", str(data), "--site", "demo", "--spread", str(CPU)]
    done = CliRunner().invoke(app, ["finetune", "sft", *words, *small, "--method", "full"])
    assert done.exit_code == 0, done.output
    verdicts = CliRunner().invoke(app, ["classify", str(data / "plant-1"), "--site", "demo"])
    assert verdicts.exit_code == 0, verdicts.output
    long = TEXTS.assign(text="sent " * 300)
    with pytest.raises(UserError, match=r"^a text and its answer have .* reads at most 256"):
        train_spread(CPU, base, long, tmp_path / "a", tmp_path / "b", KNOBS)


@pytest.mark.parametrize(
    ("file", "batch", "message"),
    [
        ("pocket.yaml", 8, "no configuration of accelerate"),
        ("nowhere.yaml", 8, "no configuration of accelerate"),
        ("ddp-cpu.yaml", 7, "starts 2 processes for batches of 7"),
        ("fsdp2.yaml", 8, "asks for FSDP, which accelerate has for GPUs only"),
        ("deepspeed.yaml", 8, "asks for DeepSpeed, which is not installed|has for GPUs only"),
    ],
)
def test_what_cannot_be_spread_is_refused_before_anything_is_read(file, batch, message):
    if torch.cuda.is_available() and file in ("fsdp2.yaml", "deepspeed.yaml"):
        pytest.skip("this machine has what they ask for")
    with pytest.raises(UserError, match=message):
        check_spread(RECIPES / file, batch)


def launched(file: str) -> tuple[object, object]:
    """The arguments that `accelerate launch` makes of a configuration."""
    words = ["--config_file", str(RECIPES / file), "--module", "finetune.spread", "job"]
    args, *_ = _validate_launch_command(launch_command_parser().parse_args(words))
    return args, load_config_from_file(str(RECIPES / file))


def test_fsdp2_is_what_accelerate_makes_of_its_file(monkeypatch):
    args, config = launched("fsdp2.yaml")
    assert (args.use_fsdp, config.num_processes, config.mixed_precision) == (True, 2, "bf16")
    for name, value in prepare_multi_gpu_env(args).items():
        if name.startswith(("FSDP", "ACCELERATE")):
            monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert (plugin.fsdp_version, plugin.reshard_after_forward) == (2, True)
    assert plugin.auto_wrap_policy.__name__ == "transformer_auto_wrap_policy"
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"
    assert type(plugin.cpu_offload).__name__ == "OffloadPolicy"  # none: CPUOffloadPolicy is another
    assert plugin.cpu_ram_efficient_loading


def test_deepspeed_is_what_accelerate_makes_of_its_file():
    args, config = launched("deepspeed.yaml")
    assert args.use_deepspeed
    assert (args.zero_stage, args.offload_optimizer_device) == (2, "none")
    assert (config.num_processes, args.gradient_accumulation_steps) == (2, "auto")
