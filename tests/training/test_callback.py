"""The callback in transformers' own trainer: the metrics are those of a run, and training is neither changed nor stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlvr_bench.errors import BadArgument, UnknownName
from tests.samplers.tiny_llama import make_tiny_llama

TASK = "double_countdown"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny") / "model")


def train(tiny: Path, out: Path, **settings: Any) -> tuple[list[dict[str, Any]], Any]:
    """The log of four training steps with the callback, and the trained weights."""
    import torch
    import transformers

    from rlvr_bench.training.callback import ValidationCallback

    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    rows = [{"input_ids": torch.arange(3, 13), "labels": torch.arange(3, 13)}] * 8
    arguments = transformers.TrainingArguments(
        output_dir=str(out),
        max_steps=4,
        per_device_train_batch_size=2,
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        dataloader_pin_memory=False,
    )
    trainer = transformers.Trainer(model, arguments, train_dataset=rows, processing_class=tokenizer)
    if settings:
        trainer.add_callback(ValidationCallback(trainer, TASK, **{"limit": 3, "n": 4, **settings}))
    trainer.train()
    assert model.training
    return trainer.state.log_history, model.lm_head.weight.detach()


def test_it_logs_metrics_every_so_many_steps_and_changes_no_training(tiny: Path, tmp_path: Path) -> None:
    plain, weights = train(tiny, tmp_path)
    log, same = train(tiny, tmp_path, every=2, at_start=True)
    assert bool((weights == same).all())
    seen = {entry["step"]: entry for entry in log if f"{TASK}/pass@1" in entry}
    assert sorted(seen) == [0, 2, 4]
    assert (seen[2][f"{TASK}/problems"], seen[2][f"{TASK}/rollouts"]) == (3, 4)
    assert 0 <= seen[2][f"{TASK}/pass@4/low"] <= seen[2][f"{TASK}/pass@4"] <= seen[2][f"{TASK}/pass@4/high"] <= 1
    assert seen[0][f"{TASK}/token_entropy"] != seen[4][f"{TASK}/token_entropy"]  # the weights have changed
    assert len([entry for entry in log if "loss" in entry]) == len([entry for entry in plain if "loss" in entry])


def test_a_failure_is_a_line_and_training_goes_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from rlvr_bench.samplers.transformers import TransformersSampler
    from rlvr_bench.training import callback

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory\nat 0x7")

    monkeypatch.setattr(TransformersSampler, "lent", fail)
    log, _ = train(tiny, tmp_path, every=2)
    assert not any(f"{TASK}/pass@1" in entry for entry in log)
    lines = [record.getMessage() for record in caplog.records if record.name == callback.__name__]
    assert lines == [f"no validation on {TASK} at step {step}: out of memory" for step in (2, 4)]
    with pytest.raises(RuntimeError, match="out of memory"):
        train(tiny, tmp_path, every=2, stop_on_error=True)


def test_bad_settings_are_one_line() -> None:
    from rlvr_bench.training.callback import ValidationCallback

    for settings in ({"every": 0}, {"n": 0}, {"limit": 0}, {"sampling": {"heat": 1}}):
        with pytest.raises(BadArgument):
            ValidationCallback(None, TASK, **settings)
    with pytest.raises(UnknownName):
        ValidationCallback(None, "math501")
