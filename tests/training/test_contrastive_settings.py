"""What the contrastive objectives do with their temperature, momentum, queues, negatives and reduced precision."""

import pytest
import torch
from goldens import Golden
from objective_goldens import QUEUE_SIZE, Picks, pair_batch, retrieval_objective, tiny_config, total

from blipbench.errors import BlipbenchError, UsageError
from blipbench.training.batches import PairBatch
from blipbench.training.contrastive import ContrastiveSettings
from blipbench.training.matching import draw, sampling_weights
from blipbench.training.objectives import RetrievalObjective
from blipbench.training.queues import require_divisible


@pytest.fixture
def batch(golden: Golden) -> PairBatch:
    return pair_batch(golden, golden.json("train_retrieval"))


@pytest.mark.parametrize(("before", "after"), [(3.0, 0.5), (1e-9, 0.001), (0.07, 0.07)])
def test_the_temperature_is_clamped_before_it_is_used(batch: PairBatch, before: float, after: float) -> None:
    objective, clamped = retrieval_objective(Picks()), retrieval_objective(Picks())
    objective.temp.data.fill_(before)
    clamped.temp.data.fill_(after)
    assert objective(batch, 0.4)["itc"] == clamped(batch, 0.4)["itc"]
    assert float(objective.temp.detach()) == pytest.approx(after)


def test_a_fresh_objectives_momentum_copies_are_its_modules_and_take_no_gradient(batch: PairBatch) -> None:
    objective = RetrievalObjective(tiny_config(), ContrastiveSettings(enc_id=2, queue_size=QUEUE_SIZE))
    state = objective.state_dict()
    copies = [name for name in state if name.split(".")[0].endswith("_m")]
    assert copies
    for name in copies:
        assert torch.equal(state[name], state[name.replace("_m.", ".", 1)]), name
    total(objective(batch, 0.4)).backward()
    assert not [name for name, p in objective.named_parameters() if name.split(".")[0].endswith("_m") and p.grad]


@pytest.mark.parametrize("drop_path", [0.0, 0.1])
def test_a_frozen_image_encoder_stands_in_for_its_momentum_copy(batch: PairBatch, drop_path: float) -> None:
    """Else, and with drop path, which makes two views of an image, the copy is computed."""
    config = tiny_config()
    config = config.model_copy(update={"vision": config.vision.model_copy(update={"drop_path": drop_path})})
    settings = (ContrastiveSettings(enc_id=2, queue_size=QUEUE_SIZE, pick=Picks()) for _ in range(2))
    trained, frozen = (RetrievalObjective(config, each) for each in settings)
    frozen.load_state_dict(trained.state_dict())
    frozen.visual_encoder.requires_grad_(False)
    computed = []
    for objective in (trained, frozen):
        objective.visual_encoder_m.register_forward_hook(lambda module, images, states: computed.append(module))
    losses = [objective(batch, 0.4) for objective in (trained, frozen)]
    assert computed == [trained.visual_encoder_m, frozen.visual_encoder_m][: 1 if drop_path == 0 else 2]
    if drop_path == 0:
        assert losses[0] == losses[1]
        assert torch.equal(trained.image_queue, frozen.image_queue)


def test_a_queue_that_holds_no_whole_number_of_batches_is_refused(batch: PairBatch) -> None:
    objective = RetrievalObjective(tiny_config(), ContrastiveSettings(enc_id=2, queue_size=50))
    with pytest.raises(UsageError, match=r"queue_size: 50 is not a multiple of the global batch of 6 .*48 or 54"):
        objective(batch, 0.4)


def test_a_batch_larger_than_the_queue_is_refused() -> None:
    with pytest.raises(UsageError, match=r"queue_size: 16 .*global batch of 24 .*; 24 would do"):
        require_divisible(16, 24)


def test_negatives_are_drawn_as_often_as_their_weights_say() -> None:
    torch.manual_seed(0)
    weights = torch.tensor([[0.0, 1.0, 3.0]]).expand(20000, 3)
    share = torch.bincount(draw(weights), minlength=3) / 20000
    assert share.tolist() == pytest.approx([0.0, 0.25, 0.75], abs=0.02)


def test_a_batch_of_one_picture_has_no_negatives(batch: PairBatch) -> None:
    objective = retrieval_objective(draw)
    with pytest.raises(BlipbenchError, match="no negative among 6 pairs"):
        objective(batch._replace(image_ids=torch.full((6,), 7)), 0.4)


def test_a_negative_is_drawn_though_every_chance_underflows() -> None:
    """At the lowest temperature the positive's logit can be hundreds above the rest."""
    feats = torch.eye(3)
    weights = sampling_weights(feats, feats, torch.tensor(0.001), torch.eye(3) > 0, floor=1e-38)
    assert all(chosen != row for row, chosen in enumerate(draw(weights).tolist()))


def test_under_autocast_losses_and_queues_stay_float32(batch: PairBatch) -> None:
    expected = retrieval_objective(Picks())(batch, 0.4)
    objective = retrieval_objective(Picks())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = objective(batch, 0.4)
    total(losses).backward()
    assert objective.image_queue.dtype == torch.float32
    norms = objective.image_queue.norm(dim=0)
    assert torch.allclose(norms, torch.ones_like(norms), atol=1e-5)
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert float(loss.detach()) == pytest.approx(float(expected[name].detach()), rel=0.05), name
