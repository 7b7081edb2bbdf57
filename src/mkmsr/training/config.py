"""How a model is trained: the `[training]` table of a settings file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mkmsr.config import StrictModel
from mkmsr.data.batching import Shuffle

SessionLoss = Literal["cross-entropy", "bce", "sampled-cross-entropy", "bpr", "bpr-max", "by-size"]
_MOST_EXACT = 20_000
"""Items over which "by-size" is exact: there a step of the exact loss takes about as long as the encoder's part."""
KnowledgeLoss = Literal["squared", "norm", "margin"]
Schedule = Literal["constant", "cosine", "one-cycle"]
StrategyName = Literal["alternating", "triples-first", "joint", "pretrain", "sessions"]


class OptimiserConfig(StrictModel):
    """How weights follow gradients."""

    name: Literal["adam", "adamw", "adagrad"] = "adam"
    """"adam" and "adagrad" add the weight decay to the gradient (L2), "adamw" takes it off the weights directly."""
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 1e-3
    """The highest learning rate of the schedule. Source: the authors' code."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """lambda_2. With "adam" it is the gradient of (weight_decay / 2) * norm(weights)^2. Differs: the authors' code uses
    1e-3 on everything, which shrinks the vectors of rare items and costs accuracy."""
    schedule: Schedule = "constant"
    """How the learning rate moves over the `epochs` of the run, see `mkmsr.training.optimisation`."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Gradients are scaled down to this norm, all weights together; absent: never."""
    touched_rows: bool = False
    """Whether a step moves only those rows of item tables that it touched, see `mkmsr.training.optimisation`: for
    sampled losses. With "adagrad" it changes nothing but time, as long as weights do not decay."""


class NegativesConfig(StrictModel):
    """Which items a sampled session loss sets against the targets."""

    number: Annotated[int, Field(ge=1)] = 2048
    """Items drawn a step, shared by its examples. Source: the code of GRU4REC's authors."""
    power: Annotated[float, Field(ge=0, le=2)] = 0.5
    """They are drawn by (how often an item is a target) ** power; 0: every item of the catalogue alike."""
    in_batch: bool = True
    """Whether the targets of the step's other examples serve as negatives too."""
    correction: Annotated[float, Field(ge=0, le=1)] = 1.0
    """For "sampled-cross-entropy": how much of the logarithm of an item's expected count in the sample is taken off its
    score (logQ); 1 makes the loss approach the exact one, less favours popular items less."""


class LossConfig(StrictModel):
    """What training minimises: session loss + knowledge_weight * knowledge loss, both means, see `losses`."""

    session: SessionLoss = "cross-entropy"
    """"cross-entropy" of the softmax as in the authors' code; "bce", binary cross-entropy of the softmaxed scores over
    the whole catalogue, as in the talk. "by-size" is "cross-entropy" over catalogues of up to 20,000 items, and over
    larger ones "sampled-cross-entropy" with `touched_rows`. The others look at a sample of items, see
    `mkmsr.training.losses`, and need scores that are inner products."""
    negatives: NegativesConfig = NegativesConfig()
    """The sample, for "sampled-cross-entropy", "bpr" and "bpr-max"."""
    score_penalty: Annotated[float, Field(ge=0)] = 1.0
    """For "bpr-max": weight of the negatives' squared scores."""
    catalogue_block: Annotated[int, Field(ge=0)] = 0
    """Items scored at a time by the exact loss, so that its memory is batch x block instead of batch x catalogue, for a
    third more work; 0 scores all at once. Only where scores are inner products and the loss is "cross-entropy"."""
    knowledge: KnowledgeLoss = "squared"
    """"squared" distances of true triples alone, as in the talk; "norm": they are not squared, as in the older version
    of the authors' code; "margin" ranks each below a corrupted one."""
    knowledge_weight: Annotated[float, Field(ge=0)] = 0.025
    """lambda_1, on the mean over triples. Source: the authors' older code weighs the sum over a batch of 256 triples
    with 1e-4, which is 0.0256 times their mean."""
    margin: Annotated[float, Field(gt=0)] = 1.0
    """How far a corrupted triple must be above the true one, in squared distance. Only for "margin"."""

    @model_validator(mode="before")
    @classmethod
    def _without_products(cls, values: Any) -> Any:
        # Settings files that older versions wrote hold the default of an option that is gone.
        if isinstance(values, dict) and values.get("products") == "float32":
            return {key: value for key, value in values.items() if key != "products"}
        return values


class TrainingConfig(StrictModel):
    """How a model is trained."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 30
    """Most epochs over the sessions."""
    batch_size: Annotated[int, Field(ge=1)] = 128
    """Examples a step. Source: the authors' code."""
    patience: Annotated[int, Field(ge=1)] = 5
    """Training stops after so many epochs in a row without a better validation metric."""
    keep: Literal["best", "last"] = "best"
    """Whether training keeps the best validation epoch or the last one: for a plan of a few epochs that is
    only right at its end, such as one cycle, where the best of them is mostly luck."""
    select: str = "mrr@20"
    """The validation metric that chooses the epoch; higher is better."""
    strategy: StrategyName = "alternating"
    """The order of session and knowledge steps; all are the same, "sessions", where there is no knowledge task."""
    pretrain_epochs: Annotated[int, Field(ge=1)] = 10
    """Epochs over the triples that come first with the strategy "pretrain", on top of `epochs`."""
    triple_batch_size: Annotated[int, Field(ge=1)] = 256
    """Triples a step, except with "joint". Source: the authors' older code; `mkm-sr` and `km-sr` start from 512."""
    shuffle: Shuffle = "examples"
    """Whether an epoch shuffles examples one by one or whole sessions at a time, which is faster."""
    optimiser: OptimiserConfig = OptimiserConfig()
    """Optimiser and learning rate."""
    loss: LossConfig = LossConfig()
    """Session loss and knowledge loss."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 1
    """Processor threads of PyTorch for training and ranking; 0 leaves PyTorch's own choice, which is one a core. Sums
    are bit for bit the same only with the same number of threads."""
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0
    """Besides every epoch's end, a checkpoint is written when the last one is so many seconds old; 0: every step."""

    def for_catalogue(self, num_items: int) -> TrainingConfig:
        """Return the same with the loss that "by-size" stands for."""
        if self.loss.session != "by-size":
            return self
        is_large = num_items > _MOST_EXACT
        loss = self.loss.model_copy(update={"session": "sampled-cross-entropy" if is_large else "cross-entropy"})
        optimiser = self.optimiser.model_copy(update={"touched_rows": is_large or self.optimiser.touched_rows})
        return self.model_copy(update={"loss": loss, "optimiser": optimiser})
