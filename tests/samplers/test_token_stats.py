"""Token statistics against a float64 oracle that sorts, over laws from one token to the whole vocabulary."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.special
import scipy.stats

torch = pytest.importorskip("torch")

from rlvr_bench.samplers import token_stats  # noqa: E402
from rlvr_bench.samplers.token_stats import TokenStatistics, token_statistics  # noqa: E402

Array = npt.NDArray[np.float64]

VOCABULARIES = (5, 97, 2_048, 32_003, 151_936)
SPREADS = (0.0, 0.01, 1.0, 4.0, 12.0)


def laws(vocabulary: int, spread: float, rows: int = 9) -> Any:
    """Random logits (rows, V): uniform at spread 0, one token at 12; the first row lacks half of the vocabulary."""
    generator = torch.Generator().manual_seed(vocabulary + int(100 * spread))
    logits = torch.randn(rows, vocabulary, generator=generator) * spread
    logits[0, : vocabulary // 2] = -math.inf
    return logits


def drawn(logits: Any) -> Any:
    """One id per row, among those with a positive probability."""
    return torch.multinomial(logits.double().softmax(-1), 1, generator=torch.Generator().manual_seed(1))[:, 0]


def oracle(logits: Any, ids: Any) -> tuple[Array, Array, Array]:
    """Log-probabilities, entropies, and the sorted cumulative probabilities (R, V)."""
    logprobs = scipy.special.log_softmax(logits.double().numpy(), axis=-1)
    probabilities = np.exp(logprobs)
    entropy: Array = scipy.stats.entropy(probabilities, axis=-1)
    return logprobs[np.arange(len(ids)), ids.numpy()], entropy, np.sort(probabilities)[:, ::-1].cumsum(-1)


def assert_nucleus(nucleus: Any, cumulative: Array, top_p: float, slack: float = 1e-7) -> None:
    """The size must be that of the smallest sufficient set, up to cumulative sums that tie with ``top_p``."""
    sizes = np.asarray(nucleus)
    assert (sizes >= (cumulative < top_p - slack).sum(-1) + 1).all()
    assert (sizes <= np.minimum((cumulative < top_p + slack).sum(-1) + 1, cumulative.shape[-1])).all()


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_equals_the_oracle(vocabulary: int, spread: float) -> None:
    logits = laws(vocabulary, spread)
    ids = drawn(logits)
    statistics = token_statistics(logits, ids)
    logprob, entropy, cumulative = oracle(logits, ids)
    np.testing.assert_allclose(statistics.logprob, logprob, rtol=0, atol=1e-7)
    np.testing.assert_allclose(statistics.entropy, entropy, rtol=0, atol=1e-7)
    assert_nucleus(statistics.nucleus, cumulative, 0.95)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_any_float_dtype_means_the_law_it_rounds_to(dtype: Any) -> None:
    logits = laws(5_003, 3.0).to(dtype)
    ids = drawn(logits)
    statistics = token_statistics(logits, ids)
    logprob, entropy, cumulative = oracle(logits, ids)
    np.testing.assert_allclose(statistics.logprob, logprob, rtol=0, atol=1e-7)
    np.testing.assert_allclose(statistics.entropy, entropy, rtol=0, atol=1e-7)
    assert_nucleus(statistics.nucleus, cumulative, 0.95)  # bfloat16 rounds to few values: ties everywhere


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.99, 0.9999])
@pytest.mark.parametrize("spread", [0.5, 5.0])
def test_any_nucleus(top_p: float, spread: float) -> None:
    logits = laws(4_001, spread)
    ids = drawn(logits)
    assert_nucleus(token_statistics(logits, ids, top_p).nucleus, oracle(logits, ids)[2], top_p)


@pytest.mark.parametrize(
    ("size", "top_p", "expected"), [(8, 0.5, 4), (8, 0.51, 5), (4096, 0.75, 3072), (1024, 0.95, 973)]
)
def test_ties_are_counted(size: int, top_p: float, expected: int) -> None:
    """A uniform law over a power of two of tokens has exact cumulative sums: the crossing token is included."""
    logits = torch.full((2, 3 * size), -math.inf)
    logits[:, size : 2 * size] = 1.5
    statistics = token_statistics(logits, torch.full((2,), size), top_p)
    assert statistics.nucleus.tolist() == [expected, expected]
    np.testing.assert_allclose(statistics.entropy, math.log(size), atol=1e-9)
    np.testing.assert_allclose(statistics.logprob, -math.log(size), atol=1e-9)


def test_a_certain_token() -> None:
    logits = torch.full((1, 300), -math.inf)
    logits[0, 7] = 3.0
    statistics = token_statistics(logits, torch.tensor([7]))
    assert [column.item() for column in statistics] == pytest.approx([0, 0, 1], abs=1e-12)


def test_an_impossible_token_has_no_logarithm() -> None:
    logits = torch.zeros(1, 10)
    logits[0, 3] = -math.inf
    assert token_statistics(logits, torch.tensor([3])).logprob.item() == -math.inf


def test_extreme_logits_neither_overflow_nor_vanish() -> None:
    logits = torch.tensor([[1e30, 1e30, -1e30], [-3e4, -3e4, -6e4]])
    statistics = token_statistics(logits, torch.tensor([0, 1]))
    np.testing.assert_allclose(statistics.entropy, math.log(2), atol=1e-9)
    np.testing.assert_allclose(statistics.logprob, -math.log(2), atol=1e-9)


def test_the_statistics_do_not_move_with_a_shift_or_an_order() -> None:
    logits = laws(3_000, 2.0).double()
    ids = drawn(logits)
    order = torch.randperm(3_000, generator=torch.Generator().manual_seed(2))
    plain = token_statistics(logits, ids)
    moved = token_statistics(logits[:, order] - 17.0, torch.argsort(order)[ids])
    for a, b in zip(plain, moved, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


def test_rows_do_not_see_their_neighbours() -> None:
    """Blocks of rows are cut by size; a row says the same in company and alone."""
    logits = laws(40_000, 3.0, rows=20)
    ids = drawn(logits)
    together = token_statistics(logits, ids)
    alone = [token_statistics(logits[i : i + 1], ids[i : i + 1]) for i in range(20)]
    for column, parts in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(column, torch.cat(parts), atol=1e-12)


def test_inputs_are_left_alone_and_outputs_have_their_types() -> None:
    logits = laws(3_000, 2.0)
    before = logits.clone()
    statistics = token_statistics(logits, drawn(logits).int())
    assert torch.equal(logits, before)
    assert isinstance(statistics, TokenStatistics)
    assert [column.dtype for column in statistics] == [torch.float64, torch.float64, torch.int64]
    empty = token_statistics(logits[:0], torch.zeros(0, dtype=torch.int64))
    assert [tuple(column.shape) for column in empty] == [(0,)] * 3


@pytest.mark.parametrize("top_p", [0.0, 1.0, -1.0, math.nan])
def test_a_nucleus_must_leave_something_out(top_p: float) -> None:
    with pytest.raises(ValueError, match="top_p"):
        token_statistics(torch.zeros(2, 5), torch.zeros(2), top_p)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="expected logits"):
        token_statistics(torch.zeros(2, 5), torch.zeros(3))


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("vocabulary", [5, 2_048, 32_003])
def test_the_search_of_accelerators_agrees(vocabulary: int, spread: float) -> None:
    """The path that CUDA takes, here uncompiled: its float32 sums may be one token off in a nucleus of thousands."""
    logits = laws(vocabulary, spread)
    ids = drawn(logits)
    _, _, weights, total = token_stats._law(logits, ids)
    sizes = token_stats._nucleus_by_search(weights, 0.95 * total)
    assert_nucleus(sizes, oracle(logits, ids)[2], 0.95, slack=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_the_compiled_path_of_accelerators_agrees() -> None:
    for rows in (1, 3, 2):
        logits = laws(3_000, 2.0, rows=rows)
        ids = drawn(logits)
        statistics = token_stats._by_compiled_functions(logits, ids, 0.95)
        logprob, entropy, cumulative = oracle(logits, ids)
        np.testing.assert_allclose(statistics.logprob, logprob, rtol=0, atol=1e-7)
        np.testing.assert_allclose(statistics.entropy, entropy, rtol=0, atol=1e-7)
        assert_nucleus(statistics.nucleus, cumulative, 0.95, slack=1e-5)
