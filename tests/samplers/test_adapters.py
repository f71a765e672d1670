"""Adapters by their files: what is read, what is refused before anything is loaded, and what identifies one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlvr_bench.errors import BadArgument, ModelError
from rlvr_bench.pipeline.adapters import resolve_adapter
from rlvr_bench.pipeline.models import choose_engine, resolve_model
from rlvr_bench.pipeline.options import SampleOptions
from rlvr_bench.samplers.adapter_fit import adapter_cautions, check_adapter, vllm_rank
from rlvr_bench.samplers.adapters import Module, adapted, adapter_digest, read_adapter
from tests.samplers.made_adapters import lora_tensors, make_adapter, write_tensors

BASE = Path(resolve_model("zoo:base"))
Q = "model.layers.0.self_attn.q_proj"


def test_the_modules_are_read_from_the_tensors(tmp_path: Path) -> None:
    adapter = read_adapter(make_adapter(tmp_path, BASE, rank=3, lora_alpha=5))
    assert adapter.modules is not None
    assert len(adapter.modules) == 21
    assert adapter.modules[Q] == Module(128, 128, 3, 5)
    assert adapter.modules["model.layers.2.mlp.down_proj"] == Module(384, 128, 3, 5)
    assert (adapter.rank, adapter.base, adapter.has_patterns) == (3, str(BASE), False)


def test_ranks_and_alphas_of_single_modules(tmp_path: Path) -> None:
    tensors = lora_tensors(BASE, 4, only="q_proj") | lora_tensors(BASE, 7, only="1.self_attn.q_proj")
    patterns: dict[str, Any] = {
        "rank_pattern": {"layers.1.self_attn.q_proj": 7},
        "alpha_pattern": {"^model.layers.0.self_attn.q_proj$": 9, "q_proj": 3},
    }
    adapter = read_adapter(make_adapter(tmp_path, BASE, tensors=tensors, **patterns))
    assert adapter.modules is not None
    assert adapter.modules[Q] == Module(128, 128, 4, 9)
    assert adapter.modules["model.layers.1.self_attn.q_proj"] == Module(128, 128, 7, 3)
    assert (adapter.rank, adapter.has_patterns) == (7, True)


@pytest.mark.parametrize("inside", ["lora_adapter", "actor/lora_adapter"])
def test_the_adapter_of_a_step_of_verl(tmp_path: Path, inside: str) -> None:
    make_adapter(tmp_path / inside, BASE)
    assert resolve_adapter(str(tmp_path)) == str(tmp_path / inside)
    assert read_adapter(tmp_path).folder == tmp_path / inside


# ------------------------------------------------------------------------------------------------------- refused
CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "another kind": ({"peft_type": "LOHA"}, "an adapter of the type LOHA, and only LORA"),
    "no kind": ({"peft_type": None}, "of the type None"),
    "modules to save": (
        {"modules_to_save": ["lm_head"]},
        r"modules_to_save \['lm_head'\], which is more than LoRA: merge",
    ),
    "bias": ({"bias": "all"}, "bias all, which is more than LoRA"),
    "a module to import": ({"megatron_config": {"a": 1}, "megatron_core": "evil"}, "megatron_config"),
    "more layers": ({"layer_replication": [[0, 9]]}, "layer_replication"),
    "unheard of": ({"use_wonder": True}, "use_wonder True, which is more"),
    "unheard of, with settings": ({"wonder_config": {"a": 1}}, "wonder_config"),
    "changed base weights": ({"init_lora_weights": "pissa_niter_4"}, "base weights change too: convert"),
    "rank 0": ({"r": 0}, r"Expected `int` >= 1 - at `\$.r`"),
    "huge rank": ({"r": 10**12}, "r`"),
    "rank as text": ({"r": "8"}, "Expected `int`, got `str`"),
    "rank as truth": ({"r": True}, "Expected `int`, got `bool`"),
    "alpha as list": ({"lora_alpha": [1]}, "Expected `float`, got `array`"),
    "use_dora as text": ({"use_dora": "yes"}, "Expected `bool`, got `str`"),
    "patterns as list": ({"rank_pattern": ["q"]}, "rank_pattern"),
    "a pattern without end": ({"alpha_pattern": {"(a+)+b": 1}}, r"the pattern \(a\+\)\+b is no name of modules"),
    "a choice": ({"rank_pattern": {"q_proj|k_proj": 1}}, "is no name of modules"),
}


@pytest.mark.parametrize(("config", "why"), CONFIGS.values(), ids=CONFIGS)
def test_a_configuration_of_anything_but_lora_is_one_line(tmp_path: Path, config: dict[str, Any], why: str) -> None:
    make_adapter(tmp_path, BASE)
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    with pytest.raises(ModelError, match=why) as raised:
        read_adapter(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not the JSON of an adapter"),
        (b"[]", "Expected `object`, got `array`"),
        (b'{"peft_type": "LORA", "r": 8, "lora_alpha": NaN}', "not the JSON"),
        (b'{"peft_type": "LORA", "r": 8, "lora_alpha": 1e999}', "not the JSON|finite"),
        (b'{"peft_type": "LORA", "r": 8}', "missing required field `lora_alpha`"),
        (b'{"a": ' + b"[" * 100_000, "not the JSON"),
        (b"\xff\xfe", "not the JSON"),
        (b" " * 10_000_001, "too large for the configuration"),
    ],
)
def test_a_configuration_that_is_none(tmp_path: Path, content: bytes, why: str) -> None:
    make_adapter(tmp_path, BASE)
    (tmp_path / "adapter_config.json").write_bytes(content)
    with pytest.raises(ModelError, match=why):
        read_adapter(tmp_path)


def whole(name: str, *shape: int) -> dict[str, Any]:
    return {name: np.ones(shape, np.float32)}


TENSORS: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({}, "its header cannot be read"),
    "another rank": (lora_tensors(BASE, 5, only="q_proj"), "not of rank 4"),
    "half a pair": (whole(f"{Q}.lora_A.weight", 4, 128), r"shapes \[4, 128\] and \[\]"),
    "a tensor under two names": (
        whole(f"{Q}.lora_A.weight", 4, 128)
        | whole(f"{Q}.lora_B.weight", 128, 4)
        | whole(f"base_model.model.{Q}.lora_A.weight", 4, 128),
        "two tensors A of model.layers.0.self_attn.q_proj: save",
    ),
    "no matrix": (whole(f"{Q}.lora_A.weight", 4, 8, 16) | whole(f"{Q}.lora_B.weight", 128, 4), "shapes"),
    "empty": (whole(f"{Q}.lora_A.weight", 4, 0) | whole(f"{Q}.lora_B.weight", 128, 4), "shapes"),
    "whole weights": (
        lora_tensors(BASE) | whole("base_model.model.lm_head.weight", 113, 128),
        "lm_head.weight is not one",
    ),
    "a magnitude without DoRA": (lora_tensors(BASE) | whole(f"{Q}.lora_magnitude_vector", 128), "is not one of LoRA"),
}


@pytest.mark.parametrize(("tensors", "why"), TENSORS.values(), ids=TENSORS)
def test_tensors_of_anything_but_lora_are_one_line(tmp_path: Path, tensors: dict[str, Any], why: str) -> None:
    with pytest.raises(ModelError, match=why):
        read_adapter(make_adapter(tmp_path, BASE, tensors=tensors))


def test_folders_without_an_adapter(tmp_path: Path) -> None:
    for name, why in (
        (str(tmp_path), "no adapter_config.json in it"),
        (str(BASE), "not a LoRA adapter: a whole checkpoint, which is --model"),
    ):
        with pytest.raises(ModelError, match=why):
            read_adapter(name)
    (make_adapter(tmp_path, BASE) / "adapter_model.safetensors").unlink()
    with pytest.raises(
        ModelError, match=r"without its weights: expected adapter_model\.safetensors or adapter_model\.bin"
    ):
        read_adapter(tmp_path)
    for name in ("./nowhere", "/no/where", "a/b/c", "~nobody/x", "x" * 5000, "owner/name@", "a b/c"):
        with pytest.raises(ModelError, match="no such folder. --adapter takes a folder or a hub id"):
            resolve_adapter(name)


# ----------------------------------------------------------------------------------------------------------- fits
def test_an_adapter_of_another_base_is_recognised_by_its_shapes(tmp_path: Path) -> None:
    tensors = lora_tensors(BASE, only="q_proj")
    tensors |= whole("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight", 4, 64)
    tensors |= whole("base_model.model.model.layers.0.mlp.up_proj.lora_B.weight", 384, 4)
    narrow = read_adapter(make_adapter(tmp_path / "a", BASE, tensors=tensors, base_model_name_or_path="x/small"))
    with pytest.raises(
        ModelError, match=r"another base: its model\.layers\.0\.mlp\.up_proj is 384 x 64, that of --model 384"
    ):
        check_adapter(narrow, "transformers", str(BASE))
    deeper = {name.replace("layers.0", "layers.9"): tensor for name, tensor in lora_tensors(BASE).items()}
    adapter = read_adapter(make_adapter(tmp_path / "b", BASE, tensors=deeper, base_model_name_or_path="x/deep"))
    with pytest.raises(ModelError, match=r"--model has no model\.layers\.9.* \(the adapter states the base x/deep\)"):
        check_adapter(adapter, "vllm", str(BASE))


def test_names_before_the_layers_may_differ_and_a_head_may_be_tied(tmp_path: Path) -> None:
    """Models of several parts are saved with other prefixes than they are trained with."""
    tensors = {name.replace("model.layers", "model.language_model.layers"): t for name, t in lora_tensors(BASE).items()}
    tensors |= whole("base_model.model.lm_head.lora_A.weight", 4, 128) | whole(
        "base_model.model.lm_head.lora_B.weight", 113, 4
    )
    adapter = read_adapter(make_adapter(tmp_path, BASE, tensors=tensors))
    check_adapter(adapter, "transformers", str(BASE))
    with pytest.raises(
        ModelError, match="changes lm_head, which is not supported with vLLM: take --engine transformers"
    ):
        check_adapter(adapter, "vllm", str(BASE))


def test_what_vllm_does_not_take(tmp_path: Path) -> None:
    dora = lora_tensors(BASE) | whole(f"base_model.model.{Q}.lora_magnitude_vector", 128)
    for name, tensors, config, why in (
        ("dora", dora, {"use_dora": True}, "DoRA, which vLLM does not compute: take --engine transformers"),
        ("rank", lora_tensors(BASE, 513, only="0.self_attn.q_proj"), {"rank": 513}, "rank 513, vLLM takes 512"),
    ):
        adapter = read_adapter(make_adapter(tmp_path / name, BASE, tensors=tensors, **config))
        check_adapter(adapter, "transformers", str(BASE))
        with pytest.raises(ModelError, match=why):
            check_adapter(adapter, "vllm", str(BASE))
    assert [vllm_rank(rank) for rank in (1, 4, 8, 9, 16, 200, 512)] == [1, 8, 8, 16, 16, 256, 512]


def test_another_name_of_the_base_is_a_warning(tmp_path: Path) -> None:
    same = read_adapter(make_adapter(tmp_path / "same", BASE))
    assert adapter_cautions(same, str(BASE), None) == ()
    assert adapter_cautions(same, "hub/Base", None) == ()
    other = read_adapter(make_adapter(tmp_path / "other", BASE, base_model_name_or_path="evil/\x1b[2Jx\ny"))
    (caution,) = adapter_cautions(other, str(BASE), None)
    assert caution.startswith("the adapter states another base model, by name: evil/")
    assert caution.isprintable()


def test_a_chat_template_beside_the_adapter_is_a_warning(tmp_path: Path) -> None:
    adapter = read_adapter(make_adapter(tmp_path, BASE))
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    (caution,) = adapter_cautions(adapter, str(BASE), None)
    assert "chat template that is not applied" in caution


# ------------------------------------------------------------------------------------------------------- identity
def test_content_and_settings_identify_an_adapter_and_its_name_does_not(tmp_path: Path) -> None:
    first = make_adapter(tmp_path / "a", BASE)
    digest = adapter_digest(read_adapter(first))
    moved = shutil.copytree(first, tmp_path / "b")
    file = moved / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": "x", "lora_dropout": 0.1}))
    assert adapter_digest(read_adapter(moved)) == digest
    others = [
        make_adapter(tmp_path / "c", BASE, seed=1),
        make_adapter(tmp_path / "d", BASE, lora_alpha=9),
        make_adapter(tmp_path / "e", BASE, use_rslora=True),
        make_adapter(tmp_path / "f", BASE, alpha_pattern={"q_proj": 1}),
    ]
    digests = {adapter_digest(read_adapter(other)) for other in others}
    assert len(digests | {digest}) == 5
    assert adapted("sha256:base", read_adapter(first)) == f"sha256:base+lora:{digest}"


# ---------------------------------------------------------------------------------------------------- where it is used
@pytest.mark.parametrize("model", ["fake", "fake:0.5", "zoo:guess", "http://localhost:1/v1"])
def test_a_model_that_takes_no_adapter(model: str) -> None:
    with pytest.raises(BadArgument, match=r"--adapter is 'a'"):
        choose_engine(model, SampleOptions(adapter="a"))


@pytest.mark.parametrize("given", ["", "  ", Path("a"), 3])
def test_an_adapter_is_a_name(given: Any) -> None:
    with pytest.raises(BadArgument, match="--adapter"):
        SampleOptions(adapter=given)


def test_an_adapter_alone_names_the_options(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "my adapter", BASE, base_model_name_or_path="owner/base; rm")
    for extra in ((), ("config.json",)):  # some programs save the base's configuration too
        for name in extra:
            (folder / name).write_text("{}")
        with pytest.raises(ModelError, match=f"--model 'owner/base; rm' --adapter '{folder}' evaluates it"):
            resolve_model(str(folder))
    write_tensors(folder / "model.safetensors", whole("w", 1))
    assert resolve_model(str(folder)) == str(folder)


def test_an_adapter_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked: list[tuple[str, Any]] = []
    folder = make_adapter(tmp_path, BASE)

    def snapshot(name: str, revision: Any, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        if name == "owner/gone":
            raise hub.errors.LocalEntryNotFoundError("not found\nand much more")
        assert "*.bin" not in allow_patterns
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    for name in ("owner/one", "owner/one@v1.2", "owner/one@v1.2"):
        assert resolve_adapter(name) == str(folder)
    assert asked == [("owner/one", None), ("owner/one", "v1.2")]
    with pytest.raises(ModelError, match="owner/gone: no folder here, and the hub gives no such adapter: not found$"):
        resolve_adapter("owner/gone")
