"""The embedded engine against a float64 forward pass, and against its own promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("transformers", reason="needs the torch extra")

import torch
from scipy import stats as scipy_stats
from transformers import AutoModelForCausalLM

from rlvr_bench.errors import BadArgument, ModelError
from rlvr_bench.records import Draw, DrawRequest, Prompt, SamplingParameters, SavedRollout
from rlvr_bench.samplers.protocol import SamplerOptions
from rlvr_bench.samplers.transformers import TransformersSampler
from tests.samplers.continued import continue_from, interrupt
from tests.samplers.tiny_llama import make_tiny_llama

TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}w5"
FREE = SamplingParameters(temperature=1.0, top_p=1.0, max_tokens=24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny"), chat_template=TEMPLATE)


@pytest.fixture
def sampler(folder: Path) -> Iterator[TransformersSampler]:
    opened = TransformersSampler(SamplerOptions(model=str(folder), token_stats="full"))
    yield opened
    opened.close()


def request(name: str, text: str, *, start: int = 0, n: int = 16, seed: int = 7) -> DrawRequest:
    return DrawRequest(prompt=Prompt(problem_id=name, text=text), start=start, n=n, seed=seed)


def requests() -> list[DrawRequest]:
    texts = ["w1 w2 w3", "w9", "w4 w4 w4 w4 w4 w7", "w9"]
    return [request(f"p{i}", text, start=16 * i, n=16 - i, seed=100 + i) for i, text in enumerate(texts)]


def texts(draw: Draw) -> list[str]:
    return [rollout.text for rollout in draw.rollouts]


def test_every_request_comes_back_once_with_its_indices(sampler: TransformersSampler) -> None:
    draws = list(sampler.draw(requests(), FREE))
    assert [draw.request for draw in draws] == requests()
    for draw in draws:
        start, n = draw.request.start, draw.request.n
        assert [rollout.index for rollout in draw.rollouts] == list(range(start, start + n))
        for rollout in draw.rollouts:
            assert 1 <= rollout.n_tokens <= FREE.max_tokens
            assert rollout.tokens is not None
            assert len(rollout.tokens.ids) == rollout.n_tokens
            words = [f"w{i - 3}" for i in rollout.tokens.ids if i >= 3]  # special tokens have no text
            assert rollout.text.split() == words
            assert (rollout.tokens.ids == 2).sum() == (rollout.finish_reason == "stop")
            assert rollout.finish_reason == "stop" or rollout.n_tokens == FREE.max_tokens
    assert {rollout.finish_reason for draw in draws for rollout in draw.rollouts} == {"stop", "length"}


def test_statistics_equal_a_float64_forward_pass_token_by_token(sampler: TransformersSampler, folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    checked = 0
    for draw in sampler.draw(requests(), SamplingParameters(temperature=0.7, top_p=0.9, max_tokens=24)):
        prompt = [1, *(int(word[1:]) + 3 for word in draw.request.prompt.text.split())]
        for rollout in draw.rollouts:
            assert rollout.tokens is not None
            ids = rollout.tokens.ids.tolist()
            with torch.inference_mode():
                logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
            p = torch.softmax(logits, -1).numpy()
            np.testing.assert_allclose(rollout.tokens.logprob, np.log(p[np.arange(len(ids)), ids]), atol=2e-4)
            np.testing.assert_allclose(rollout.tokens.entropy, scipy_stats.entropy(p, axis=1), atol=2e-4)
            mass = np.cumsum(-np.sort(-p, axis=1), axis=1)
            nucleus = (mass < 0.95).sum(axis=1) + 1
            sure = np.abs(mass - 0.95).min(axis=1) > 1e-5  # at a tie the last bit decides
            assert (rollout.tokens.nucleus[sure] == nucleus[sure]).all()
            assert rollout.logprob_sum == pytest.approx(float(rollout.tokens.logprob.sum()), abs=1e-3)
            assert rollout.entropy_mean == pytest.approx(float(rollout.tokens.entropy.mean()), abs=1e-5)
            assert rollout.branching_mean == pytest.approx(float(rollout.tokens.nucleus.mean()))
            checked += len(ids)
    assert checked > 300


def test_a_draw_depends_on_its_seed_and_not_on_its_company(folder: Path) -> None:
    """Alone, among others, in windows of one request, or with other padding: the same rollouts."""
    together = TransformersSampler(SamplerOptions(model=str(folder)))
    apart = TransformersSampler(SamplerOptions(model=str(folder), engine_args={"rows": 1}))
    expected = [texts(draw) for draw in together.draw(requests(), FREE)]
    assert [texts(draw) for draw in apart.draw(requests(), FREE)] == expected
    assert [texts(next(iter(apart.draw([one], FREE)))) for one in reversed(requests())] == expected[::-1]


def test_another_seed_gives_other_rollouts_and_rollouts_of_a_request_differ(sampler: TransformersSampler) -> None:
    first, second = sampler.draw([request("p", "w1", seed=1), request("p", "w1", seed=2, start=16)], FREE)
    assert len(set(texts(first)) & set(texts(second))) <= 2
    assert len(set(texts(first))) > 12


def test_requests_are_pulled_as_they_are_needed(folder: Path) -> None:
    sampler = TransformersSampler(SamplerOptions(model=str(folder), engine_args={"rows": 16}))
    pulled = []

    def source() -> Iterator[DrawRequest]:
        for i in range(100):
            pulled.append(i)
            yield request("p", "w1", start=16 * i, seed=i)

    draws = sampler.draw(source(), FREE)
    next(draws)
    next(draws)
    assert len(pulled) <= 3


def test_first_tokens_follow_the_models_distribution(sampler: TransformersSampler, folder: Path) -> None:
    """Chi-square against exact probabilities, at T = 1 and under temperature, top-k and top-p."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    with torch.inference_mode():
        logits = model(torch.tensor([[1, 4, 5]])).logits[0, -1].numpy()
    for sampling in (
        SamplingParameters(temperature=1.0, top_p=1.0, max_tokens=1),
        SamplingParameters(temperature=0.5, top_p=0.8, max_tokens=1),
        SamplingParameters(temperature=2.0, top_p=1.0, top_k=5, max_tokens=1),
    ):
        expected = cut(logits, sampling)
        drawn = [request("p", "w1 w2", start=i, n=500, seed=i) for i in range(8)]
        ids = [r.tokens.ids[0] for draw in sampler.draw(drawn, sampling) for r in draw.rollouts if r.tokens is not None]
        counts = np.bincount(ids, minlength=len(logits))
        assert counts[expected == 0].sum() == 0
        kept = expected * len(ids) >= 5
        rest = ~kept & (expected > 0)
        observed = np.append(counts[kept], counts[rest].sum())
        wanted = np.append(expected[kept], expected[rest].sum()) * len(ids)
        if wanted[-1] == 0:
            observed, wanted = observed[:-1], wanted[:-1]
        assert scipy_stats.chisquare(observed, wanted).pvalue > 1e-4


def cut(logits: np.ndarray, sampling: SamplingParameters) -> np.ndarray:
    """The sampling distribution by definition: temperature, then top-k, then top-p, each renormalised."""
    p = np.exp(logits / sampling.temperature - (logits / sampling.temperature).max())
    p /= p.sum()
    order = np.argsort(-p)
    if sampling.top_k:
        p[order[sampling.top_k :]] = 0
        p /= p.sum()
    keep, mass = [], 0.0
    for i in order:
        keep.append(i)
        mass += p[i]
        if mass >= sampling.top_p:
            break
    out = np.zeros_like(p)
    out[keep] = p[keep]
    return np.asarray(out / out.sum())


def test_greedy_takes_the_likeliest_token(sampler: TransformersSampler) -> None:
    greedy = SamplingParameters(temperature=0.0, max_tokens=8)
    (draw,) = sampler.draw([request("p", "w1", n=3)], greedy)
    assert len(set(texts(draw))) == 1


def test_statistics_can_be_summarised_or_left_out(folder: Path) -> None:
    levels: tuple[Literal["off", "summary"], ...] = ("off", "summary")
    for stats in levels:
        opened = TransformersSampler(SamplerOptions(model=str(folder), token_stats=stats))
        rollout = next(iter(opened.draw([request("p", "w1")], FREE))).rollouts[0]
        assert rollout.tokens is None
        assert (rollout.entropy_mean is None) == (stats == "off")
        assert (rollout.entropy_profile is None) == (stats == "off")
        assert opened.info.token_stats == ("none" if stats == "off" else "exact")


def test_messages_go_through_the_chat_template_where_there_is_one(folder: Path) -> None:
    prompt = Prompt(problem_id="p", text="w1 w2 w3 w4", messages=({"role": "user", "content": "w8 w9"},))
    auto = TransformersSampler(SamplerOptions(model=str(folder)))
    none = TransformersSampler(SamplerOptions(model=str(folder), chat_template="none"))
    assert auto.prompt_tokens(prompt) == 3  # w8 w9 w5: the template writes special tokens itself
    assert none.prompt_tokens(prompt) == 5  # <bos> w1 w2 w3 w4
    assert auto.info.chat_template is not None
    assert none.info.chat_template is None


def test_info_names_the_weights_by_content(folder: Path, tmp_path: Path) -> None:
    other = make_tiny_llama(tmp_path / "other", seed=1)
    same = make_tiny_llama(tmp_path / "same", seed=0)
    digests = [TransformersSampler(SamplerOptions(model=str(path))).info.weights for path in (folder, other, same)]
    assert digests[0] == digests[2] != digests[1]
    info = TransformersSampler(SamplerOptions(model=str(folder))).info
    assert (info.engine, info.context_tokens, info.dtype, info.device) == ("transformers", 128, "float32", "cpu")


def test_models_that_cannot_be_loaded_are_one_clear_line(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot load") as error:
        TransformersSampler(SamplerOptions(model=str(tmp_path)))
    assert "\n" not in str(error.value)
    with pytest.raises(BadArgument, match="--engine-arg is 'tensor_parallel_size': the transformers engine takes"):
        TransformersSampler(SamplerOptions(model=str(folder), engine_args={"tensor_parallel_size": 2}))


@pytest.mark.parametrize(
    "changed",
    [{}, {"repetition_penalty": 1.5, "presence_penalty": 0.7}, {"stop": ("w7 w", "3 w4")}, {"temperature": 0.0}],
    ids=["free", "penalties", "stops", "greedy"],
)
def test_an_interrupted_draw_continues_with_the_tokens_of_an_undisturbed_one(
    sampler: TransformersSampler, changed: dict[str, object]
) -> None:
    sampling = msgspec.structs.replace(FREE, max_tokens=100, **changed)
    asked = [msgspec.structs.replace(one, n=1 if sampling.temperature == 0 else 8) for one in requests()]
    straight = list(sampler.draw(asked, sampling))
    waiting, saved = asked, list[SavedRollout]()
    for length in (1, 8, 38):  # one prefix after the other: the second and the third begin with saved rollouts
        draws, saved = interrupt(sampler, waiting, sampling, length)
        assert draws == []
        waiting = continue_from(asked, draws, saved)
    assert {one.ended for one in saved} >= ({None} if sampling.temperature == 0 else {None, "token"})
    assert any(len(one.ids) == 38 for one in saved)
    continued = list(sampler.draw(waiting, sampling))
    for draw, before in zip(continued, straight, strict=True):
        for mine, theirs in zip(draw.rollouts, before.rollouts, strict=True):
            assert (mine.text, mine.n_tokens, mine.finish_reason) == (
                theirs.text,
                theirs.n_tokens,
                theirs.finish_reason,
            )
            assert mine.tokens is not None
            assert theirs.tokens is not None
            assert (mine.tokens.ids == theirs.tokens.ids).all()
            np.testing.assert_allclose(mine.tokens.logprob, theirs.tokens.logprob, atol=1e-4)
            assert mine.entropy_profile == pytest.approx(theirs.entropy_profile, abs=1e-4)


def test_what_cannot_be_continued_is_drawn_from_its_beginning(folder: Path, sampler: TransformersSampler) -> None:
    asked = [request("p0", "w1 w2 w3", n=4)]
    straight = texts(next(sampler.draw(asked, FREE)))
    bare = TransformersSampler(SamplerOptions(model=str(folder), token_stats="off"))
    _, saved = interrupt(bare, asked, FREE, 5)
    bare.close()
    too_long = [msgspec.structs.replace(one, ids=np.zeros(24, np.int32)) for one in saved]
    unknown = [msgspec.structs.replace(one, ids=np.full(3, sampler.loaded.vocabulary)) for one in saved]
    for useless in (saved, too_long, unknown):  # the first lacks the statistics that this engine measures
        (draw,) = sampler.draw(continue_from(asked, [], useless), FREE)
        assert texts(draw) == straight


def test_a_deterministic_draw_is_the_same_to_the_bit_in_any_company(folder: Path) -> None:
    drawn = []
    for rows, order in ((3, 1), (64, -1)):
        options = SamplerOptions(model=str(folder), token_stats="full", engine_args={"rows": rows}, deterministic=True)
        engine = TransformersSampler(options)
        drawn.append({draw.request.prompt.problem_id: draw for draw in engine.draw(requests()[::order], FREE)})
        items = list(engine.draw_growing(requests()[:1], FREE))
        engine.close()
        assert [type(item) for item in items] == [Draw], "what continues is read again in another batch"
    for name, draw in drawn[0].items():
        for mine, theirs in zip(draw.rollouts, drawn[1][name].rollouts, strict=True):
            assert mine.text == theirs.text
            assert mine.tokens is not None
            assert theirs.tokens is not None
            assert mine.tokens.logprob.tobytes() == theirs.tokens.logprob.tobytes()
