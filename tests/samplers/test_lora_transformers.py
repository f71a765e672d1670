"""An adapter in the transformers engine equals its merged weights, token for token, and none of its files runs anything."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs rlvr-bench[torch]")
pytest.importorskip("peft", reason="needs rlvr-bench[torch]")

from rlvr_bench.errors import ModelError
from rlvr_bench.pipeline.models import resolve_model
from rlvr_bench.records import DrawRequest, Prompt, SamplingParameters
from rlvr_bench.samplers import open_scorer
from rlvr_bench.samplers.adapter_tensors import read_tensors
from rlvr_bench.samplers.adapters import read_adapter
from rlvr_bench.samplers.logprobs import Passage
from rlvr_bench.samplers.lora_transformers import remove_adapter, swap_adapter
from rlvr_bench.samplers.protocol import SamplerOptions
from rlvr_bench.samplers.transformers import TransformersSampler
from tests.samplers.made_adapters import make_adapter, save_with_peft

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),  # peft, of the models that it merges
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
BASE = Path(resolve_model("zoo:base"))
ASKED = [
    DrawRequest(prompt=Prompt(problem_id=f"p{i}", text=text), start=0, n=6, seed=i)
    for i, text in enumerate(("numbers 3 5 7 9, targets 24", "numbers 4 4 8, targets 1"))
]
GREEDY = [DrawRequest(prompt=request.prompt, start=0, n=1, seed=0) for request in ASKED]
WAYS = [
    (GREEDY, SamplingParameters(temperature=0.0, max_tokens=24)),
    (ASKED, SamplingParameters(temperature=1.0, top_p=1.0, max_tokens=24)),
    (ASKED, SamplingParameters(temperature=0.8, top_p=0.9, repetition_penalty=1.2, max_tokens=24)),
]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As the engine does for a model of this size."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adapters ``a0`` and ``a1``, and their merged weights ``m0`` and ``m1``."""
    folder = tmp_path_factory.mktemp("adapters")
    for seed, rank in enumerate((8, 4)):
        save_with_peft(folder / f"a{seed}", BASE, seed=seed, merged=folder / f"m{seed}", r=rank)
    return folder


def opened(model: Path, **options: Any) -> TransformersSampler:
    return TransformersSampler(SamplerOptions(model=str(model), token_stats="full", **options))


@pytest.fixture(scope="module")
def sampler(folders: Path) -> Iterator[TransformersSampler]:
    sampler = opened(BASE, adapter=str(folders / "a0"))
    yield sampler
    sampler.close()


def rollouts(sampler: TransformersSampler) -> list[Any]:
    return [rollout for asked, how in WAYS for draw in sampler.draw(asked, how) for rollout in draw.rollouts]


def test_it_equals_the_merged_weights_token_for_token(sampler: TransformersSampler, folders: Path) -> None:
    """Also after the adapter was changed and changed back, in one engine; the statistics are those of the adapted model."""
    drawn: dict[str, list[Any]] = {}
    for name in ("a0", "a1", "a0 again"):
        sampler.use_adapter(str(folders / name[:2]))
        assert sampler.info.adapter == str(folders / name[:2])
        drawn[name] = rollouts(sampler)
    assert [a.text for a in drawn["a0"]] == [b.text for b in drawn["a0 again"]]
    for name in ("a0", "a1"):
        merged = opened(folders / name.replace("a", "m"))
        for mine, theirs in zip(drawn[name], rollouts(merged), strict=True):
            assert mine.tokens.ids.tolist() == theirs.tokens.ids.tolist()
            assert (mine.text, mine.finish_reason) == (theirs.text, theirs.finish_reason)
            np.testing.assert_allclose(mine.tokens.logprob, theirs.tokens.logprob, atol=2e-4)
            np.testing.assert_allclose(mine.tokens.entropy, theirs.tokens.entropy, atol=2e-4)
        merged.close()
    base = opened(BASE)
    assert [r.text for r in rollouts(base)] != [r.text for r in drawn["a0"]]
    assert sampler.info.weights.startswith(f"{base.info.weights}+lora:sha256:")
    base.close()


def test_given_tokens_have_the_log_probabilities_of_the_merged_weights(folders: Path) -> None:
    passage = Passage((1, 5, 9), np.arange(3, 60, dtype=np.int32))
    both = []
    options = SamplerOptions(model=str(BASE), adapter=str(folders / "a0"))
    merged = SamplerOptions(model=str(folders / "m0"))
    for mine, reference in ((options, merged), (merged, options)):
        scorer = open_scorer("transformers", mine, reference)
        ((_, scored),) = scorer.score([passage])
        assert scored.kl is not None
        assert float(np.abs(scored.kl).max()) < 1e-6
        both.append(scored)
        scorer.close()
    np.testing.assert_allclose(both[0].logprob, both[1].logprob, atol=2e-4)
    np.testing.assert_allclose(both[0].entropy, both[1].entropy, atol=2e-4)


@pytest.mark.parametrize(
    "config",
    [
        {"use_rslora": True},
        {"use_dora": True, "target_modules": ["q_proj", "down_proj"]},
        {"rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 7}, "alpha_pattern": {"k_proj": 3}},
        {"target_modules": r".*\.1\..*(q|v)_proj"},
    ],
    ids=["rslora", "dora", "patterns", "an expression"],
)
def test_every_kind_of_lora_equals_what_peft_merges(tmp_path: Path, config: dict[str, Any]) -> None:
    """peft reads none of the adapter's own settings here, so the scale of every module is compared with its merge."""
    import torch
    from transformers import AutoModelForCausalLM

    save_with_peft(tmp_path / "a", BASE, merged=tmp_path / "m", **config)
    model, merged = (
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval() for path in (BASE, tmp_path / "m")
    )
    ids = torch.arange(3, 90)[None]
    with torch.inference_mode():
        before = model(ids).logits
        adapter = read_adapter(tmp_path / "a")
        swap_adapter(model, adapter, read_tensors(adapter))
        assert float((model(ids).logits - merged(ids).logits).abs().max()) < 2e-4
        assert float((model(ids).logits - before).abs().max()) > 0.1
        remove_adapter(model)
        assert torch.equal(model(ids).logits, before)


# ------------------------------------------------------------------------------------------------------- hostile files
class Attack:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("attacked"),))


def test_a_pickle_is_read_as_tensors_only(
    sampler: TransformersSampler, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from safetensors.torch import load_file

    monkeypatch.chdir(tmp_path)
    make_adapter(tmp_path, BASE, rank=8, lora_alpha=16)
    (tmp_path / "adapter_model.safetensors").unlink()
    file = tmp_path / "adapter_model.bin"
    torch.save(load_file(folders / "a0" / "adapter_model.safetensors"), file)
    sampler.use_adapter(str(tmp_path))
    pickled = rollouts(sampler)
    sampler.use_adapter(str(folders / "a0"))
    assert [a.text for a in pickled] == [b.text for b in rollouts(sampler)]
    for content in (pickle.dumps(Attack()), pickle.dumps([1]), b"", b"x" * 100):
        file.write_bytes(content)
        with pytest.raises(ModelError, match="cannot be read as a pickle of tensors alone"):
            sampler.use_adapter(str(tmp_path))
    torch.save({"w": Attack()}, file)
    with pytest.raises(ModelError, match="cannot be read as a pickle of tensors alone"):
        sampler.use_adapter(str(tmp_path))
    assert not (tmp_path / "attacked").exists()


def test_numbers_that_are_none_and_files_cut_short(sampler: TransformersSampler, tmp_path: Path) -> None:
    from tests.samplers.made_adapters import lora_tensors

    tensors = lora_tensors(BASE)
    tensors[next(iter(tensors))][0, 0] = np.nan
    with pytest.raises(ModelError, match="has numbers that are not finite"):
        sampler.use_adapter(str(make_adapter(tmp_path, BASE, tensors=tensors)))
    file = tmp_path / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ModelError, match="cannot be read as a safetensors"):
        sampler.use_adapter(str(tmp_path))


def test_an_adapter_beside_whole_weights_is_not_loaded_in_silence(folders: Path, tmp_path: Path) -> None:
    """transformers would follow adapter_config.json, to another base even, now that peft is installed."""
    for file in BASE.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "evil/model"}))
    with pytest.raises(ModelError, match=r"it has an adapter_config\.json, so what is meant is not clear"):
        opened(tmp_path)


def test_a_module_that_the_model_lacks(sampler: TransformersSampler, tmp_path: Path) -> None:
    tensors = {
        "base_model.model.layers.0.self_attn.q_proj.lora_A.weight": np.ones((4, 128), np.float32),
        "base_model.model.layers.0.self_attn.q_proj.lora_B.weight": np.ones((128, 4), np.float32),
    }
    with pytest.raises(ModelError, match=r"does not fit the model: no module layers\.0\.self_attn\.q_proj"):
        sampler.use_adapter(str(make_adapter(tmp_path, BASE, tensors=tensors)))
