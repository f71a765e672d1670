"""Checkpoints as training programs leave them: found where they can be loaded, else one line with what to do."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from rlvr_bench.errors import ModelError
from rlvr_bench.pipeline import layouts
from rlvr_bench.pipeline.folders import find_run, path_digest
from rlvr_bench.pipeline.layouts import checkpoint_folder
from rlvr_bench.pipeline.models import resolve_model


def write(folder: Path, *names: str) -> Path:
    """Files with nothing in them that matters."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return folder


VERL = ("actor/model_world_size_2_rank_0.pt", "actor/model_world_size_2_rank_1.pt", "actor/fsdp_config.json")
CONFIG = ("actor/huggingface/config.json", "actor/huggingface/tokenizer.json")
MEGATRON = ("actor/dist_ckpt/__0_0.distcp", "actor/dist_ckpt/common.pt", *CONFIG)


# ------------------------------------------------------------------------------------------------------------------- found
@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin", "model-00001-of-00002.safetensors"])
@pytest.mark.parametrize("raw", [VERL, MEGATRON, ()])
@pytest.mark.parametrize("given", ["", "actor", "actor/huggingface"])
def test_a_checkpoint_inside_a_step_of_verl_is_found(
    tmp_path: Path, weights: str, raw: tuple[str, ...], given: str
) -> None:
    write(tmp_path, *raw, *CONFIG, f"actor/huggingface/{weights}")
    assert resolve_model(str(tmp_path / given)) == str(tmp_path / "actor" / "huggingface")


def test_all_three_names_are_one_checkpoint(tmp_path: Path) -> None:
    step = write(tmp_path / "global_step_5", *VERL, *CONFIG, "actor/huggingface/model.safetensors")
    digests = {path_digest(str(path)) for path in (step, step / "actor", step / "actor" / "huggingface")}
    assert len(digests) == 1
    assert find_run(tmp_path / "runs", str(step), "t").parts[-2].endswith("global_step_5")


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin", "model.gguf", "consolidated.00.pth"])
def test_a_whole_checkpoint_is_itself_whatever_else_is_in_it(tmp_path: Path, weights: str) -> None:
    write(
        tmp_path, "config.json", weights, "zero_to_fp32.py", "global_step5/mp_rank_00_model_states.pt", "optimizer.pt"
    )
    assert checkpoint_folder(tmp_path) == tmp_path


def test_a_configuration_without_weights_is_left_to_the_engine(tmp_path: Path) -> None:
    assert checkpoint_folder(write(tmp_path, "config.json")) == tmp_path


# ----------------------------------------------------------------------------------------------------------------- refused
FSDP = r"`python -m verl.model_merger merge --backend fsdp --local_dir {0}/actor --target_dir {0}/actor/huggingface`"


@pytest.mark.parametrize("given", ["", "actor", "actor/huggingface"])
@pytest.mark.parametrize("files", [VERL, (*VERL, *CONFIG)])
def test_raw_shards_of_verl_name_the_merge_command(tmp_path: Path, files: tuple[str, ...], given: str) -> None:
    write(tmp_path, *files)
    (tmp_path / given).mkdir(parents=True, exist_ok=True)
    if given == "actor/huggingface" and files == VERL:
        (tmp_path / given / "empty").touch()
    with pytest.raises(ModelError, match=FSDP.format(tmp_path)) as caught:
        resolve_model(str(tmp_path / given))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", ["", "actor", "actor/huggingface"])
def test_megatron_in_verl(tmp_path: Path, given: str) -> None:
    write(tmp_path, *MEGATRON)
    with pytest.raises(ModelError, match=f"merge --backend megatron --local_dir {tmp_path}/actor "):
        resolve_model(str(tmp_path / given))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            ["mp_rank_00/model_optim_rng.pt"],
            "export --hf-model BASE_MODEL --megatron-path {0} --hf-path {0}/huggingface",
        ),
        (
            ["iter_0000100/mp_rank_00_000/model_optim_rng.pt", "latest_checkpointed_iteration.txt"],
            "a Megatron checkpoint",
        ),
        (["common.pt", ".metadata", "__0_0.distcp", "metadata.json"], "a Megatron checkpoint"),
        (["iter_5/common.pt", "iter_5/.metadata", "iter_5/__0_0.distcp"], "a Megatron checkpoint"),
        ([".metadata", "__0_0.distcp"], "`accelerate merge-weights {0} {0}`, and copy config.json"),
        (
            ["pytorch_model_fsdp_0/.metadata", "pytorch_model_fsdp_0/__0_0.distcp", "config.json"],
            "`accelerate merge-weights {0}/pytorch_model_fsdp_0 {0}`",
        ),
        (
            ["zero_to_fp32.py", "latest", "global_step5/mp_rank_00_model_states.pt"],
            "`python {0}/zero_to_fp32.py {0} {0}`",
        ),
        (["adapter_config.json", "adapter_model.safetensors"], "a LoRA adapter without its base model"),
        (
            ["global_step_20/actor/a", "global_step_100/actor/a"],
            "a folder of them: .* --model '{0}/global_step_\\*'",
        ),
        (["checkpoint-500/config.json"], "a folder of them: .* --model '{0}/checkpoint-\\*'"),
        (["notes.txt"], "no config.json in it, so not a Hugging Face checkpoint"),
    ],
)
def test_other_layouts(tmp_path: Path, files: list[str], words: str) -> None:
    write(tmp_path, *files)
    with pytest.raises(ModelError, match=words.format(tmp_path)) as caught:
        resolve_model(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_deepspeed_s_inner_folder_names_the_script_of_the_outer_one(tmp_path: Path) -> None:
    write(tmp_path, "zero_to_fp32.py", "global_step5/mp_rank_00_model_states.pt")
    with pytest.raises(ModelError, match=f"`python {tmp_path}/zero_to_fp32.py"):
        resolve_model(str(tmp_path / "global_step5"))


def test_a_folder_beside_raw_shards_is_not_taken_for_them(tmp_path: Path) -> None:
    write(tmp_path, "model_world_size_1_rank_0.pt", "notes/a.txt")
    with pytest.raises(ModelError, match=r"notes: no config\.json in it"):
        resolve_model(str(tmp_path / "notes"))


def test_a_command_can_be_pasted(tmp_path: Path) -> None:
    folder = write(tmp_path / "my {run}; rm x", "model_world_size_1_rank_0.pt")
    with pytest.raises(ModelError, match=f"--local_dir '{folder}' --target_dir '{folder}/huggingface'"):
        resolve_model(str(folder))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    names = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    write(tmp_path, "config.json", names[0], names[2])
    index = {"weight_map": {f"w{number}": name for number, name in enumerate(names)}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=f"1 of the weight files in its index are missing, such as {names[1]}"):
        resolve_model(str(tmp_path))
    (tmp_path / names[1]).touch()
    assert resolve_model(str(tmp_path)) == str(tmp_path)


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> list[Path]:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(layouts, "loaded_files", refuse)
    with pytest.raises(ModelError, match="cannot be read: Permission denied"):
        resolve_model(str(write(tmp_path, "config.json")))
