"""Log-probabilities of whole responses under the law that drew them, against a float64 pass and the law by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rlvr_bench.errors import BadArgument
from rlvr_bench.records import DrawRequest, Prompt, SamplingParameters

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("transformers", reason="needs the torch extra")

from rlvr_bench.samplers.logprobs import Passage  # noqa: E402
from rlvr_bench.samplers.logprobs_transformers import TransformersScorer  # noqa: E402
from rlvr_bench.samplers.logprobs_vllm import VllmScorer  # noqa: E402
from rlvr_bench.samplers.protocol import SamplerOptions  # noqa: E402
from rlvr_bench.samplers.transformers import TransformersSampler  # noqa: E402
from tests.samplers.laws import law  # noqa: E402
from tests.samplers.tiny_llama import make_tiny_llama  # noqa: E402

LAWS = [
    SamplingParameters(temperature=1.0, top_p=1.0, max_tokens=12),
    SamplingParameters(temperature=0.7, top_p=0.8, top_k=20, max_tokens=12),
    SamplingParameters(
        temperature=1.2, top_p=0.9, min_p=0.02, max_tokens=12, repetition_penalty=1.4, presence_penalty=0.8
    ),
]
TEXTS = ("w1 w2 w1", "w3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("sampling", LAWS, ids=lambda sampling: sampling.in_words())
def test_drawn_responses_have_the_product_of_their_tokens_probabilities(
    folder: Path, sampling: SamplingParameters
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    sampler = TransformersSampler(SamplerOptions(model=str(folder), token_stats="full"))
    scorer = TransformersScorer(SamplerOptions(model=str(folder)))
    asked = [DrawRequest(prompt=Prompt(problem_id=text, text=text), start=0, n=4, seed=1) for text in TEXTS]
    passages = [
        Passage(tuple(sampler.loaded.tokenizer(draw.request.prompt.text)["input_ids"]), rollout.tokens.ids)
        for draw in sampler.draw(asked, sampling)
        for rollout in draw.rollouts
        if rollout.tokens is not None
    ]
    scores = dict(scorer.score_law(passages, sampling))
    for number, passage in enumerate(passages):
        with torch.inference_mode():
            logits = model(torch.tensor([[*passage.prompt, *passage.response.tolist()]])).logits[0].numpy()
        total = 0.0
        for t, token in enumerate(passage.response.tolist()):
            chances = law(logits[len(passage.prompt) - 1 + t], passage.prompt, passage.response[:t].tolist(), sampling)
            total += np.log(chances[token])
        assert scores[number].cut == 0  # it was drawn
        assert scores[number].logprob == pytest.approx(total, abs=1e-3)
    assert len({round(score.logprob, 6) for score in scores.values()}) > 1


def test_a_token_outside_the_kept_set_is_counted(folder: Path) -> None:
    scorer = TransformersScorer(SamplerOptions(model=str(folder)))
    passage = Passage((1, 4), np.arange(3, 33, dtype=np.int32))
    ((_, open_),) = scorer.score_law([passage], SamplingParameters(temperature=1.0, top_p=1.0))
    ((_, narrow),) = scorer.score_law([passage], SamplingParameters(temperature=1.0, top_p=1.0, top_k=1))
    assert open_.cut == 0
    assert narrow.cut > 25


def test_vllm_refuses_a_law_that_it_cannot_score() -> None:
    scorer = VllmScorer.__new__(VllmScorer)  # no engine is needed to refuse
    with pytest.raises(BadArgument, match=r"--engine is 'vllm'.*top-p=0\.9.*Take transformers"):
        next(scorer.score_law([], SamplingParameters(temperature=1.0, top_p=0.9)))
