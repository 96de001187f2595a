"""One trial of a pack: what is trained, how far it is, and its best weights so far."""

import io
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional

from dfloc import losses, registry, repro
from dfloc.config import Checkpoint, TrialSpec
from dfloc.engine import checkpoint, schedule
from dfloc.engine.batches import Source
from dfloc.errors import ConfigError, DflocError
from dfloc.ledger import EpochRecord
from dfloc.measures import MEASURES
from dfloc.models import answers, decoders
from dfloc.models.base import Outputs
from dfloc.models.smp import Segmenter
from dfloc.registry import MapSpec

Valid = Mapping[str, float]  # what an epoch's weights are worth on the validation images, by measure


class Divergence(NamedTuple):
    """A loss that was no finite number; `step` counts from 1 at the trial's start."""

    epoch: int
    step: int
    message: str


class Member:
    """A decoder in training.

    Attributes:
        spec: the trial's.
        decoder: what is trained, on the device.
        optimizer: None where nothing has a gradient: a baseline, which is solved instead.
        epoch: finished epochs.
        steps: optimiser steps so far.
        ended: no epoch is left: all are done, the schedule ended it, it was solved, or it diverged.
        best_epoch: the epoch whose weights are the best ones; 0 before the first.
    """

    def __init__(self, spec: TrialSpec, decoder: torch.nn.Module, device: str) -> None:
        self.spec = spec
        self.device = torch.device(device)
        self.decoder = decoder.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = _optimizer(spec, decoder)
        self.epoch = self.steps = self.best_epoch = 0
        self.ended = False
        self._schedule = schedule.make(spec)
        self._loss = losses.make(spec.loss)
        self._reads = losses.reads(spec.loss, answers.gives(spec.decoder, spec.num_classes))
        self._best_value = -math.inf
        self._best: dict[str, Tensor] = {}
        self._losses: list[Tensor] = []
        self._sizes: list[int] = []

    @classmethod
    def create(
        cls,
        spec: TrialSpec,
        maps: Sequence[MapSpec],
        device: str = "cpu",
        parent_weights: Mapping[str, Tensor] | None = None,
        encoder_weights: Mapping[str, Tensor] | None = None,
    ) -> "Member":
        """Make a member before its first epoch.

        Args:
            spec: what it is to be.
            maps: shapes of the spec's maps.
            device: cpu | cuda.
            parent_weights: those that `spec.init` names (`checkpoint.read`).
            encoder_weights: those that `spec.decoder.weights` names, where there is no parent.

        Raises:
            WorkspaceError: the parent's weights do not fit the decoder.
            ConfigError: the decoder does not suit the maps, or the encoder's weights do not fit it.
        """
        assert (spec.start is None) == (parent_weights is None)
        decoder = decoders.build(spec.decoder, maps, repro.generator(spec.seed, "init"), spec.num_classes)
        if spec.start and parent_weights is not None:
            checkpoint.fill(decoder, parent_weights, f"{spec.start.checkpoint} of trial {spec.start.parent[:12]}")
        elif encoder_weights is not None:
            cast(Segmenter, decoder).begin_from(encoder_weights)
        return cls(spec, decoder, device)

    def start(self, source: Source) -> None:
        """Fit what has a closed form to the training samples, unless a parent's holds or an epoch is done already."""
        if self.epoch == 0 and not self.spec.start:
            self.decoder.solve(source)

    def step(self, x_BCHW: Tensor, target_BHW: Tensor, label_B: Tensor | None = None) -> None:
        """Take one optimiser step; its loss is looked at when the epoch ends, so that no device is waited for."""
        assert self.optimizer is not None
        for group in self.optimizer.param_groups:
            group["lr"] = self._schedule.lr(self.steps)
        dropout = repro.seed_of("dfloc", self.spec.seed, "dropout", self.steps)
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.spec.precision == "bf16")
        with repro.seeded(dropout, self.device), autocast:
            loss = self._loss_of(self._answer(x_BCHW), target_BHW, label_B)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.steps += 1
        self._losses.append(loss.detach())
        self._sizes.append(len(x_BCHW))

    def loss_and_prob(self, x_BCHW: Tensor, target_BHW: Tensor, label_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch, and probabilities, in fp32 and eval mode.

        Those of pixels on the targets' grid, [B, 256, 256]; of a task of images those of its classes, [B, K].
        """
        said = self._answer(x_BCHW)
        loss = self._loss_of(said, target_BHW, label_B)
        if self.spec.task != "localize":
            assert said.image_BK is not None
            return loss, said.image_BK.softmax(1)
        assert said.map_B1HW is not None
        prob_B1HW, size = said.map_B1HW.sigmoid(), target_BHW.shape[-2:]
        if prob_B1HW.shape[-2:] != size:
            prob_B1HW = functional.interpolate(prob_B1HW, size, mode="bilinear")
        return loss, prob_B1HW.squeeze(1)

    def _answer(self, x_BCHW: Tensor) -> Outputs:
        return answers.given(self.spec.decoder, self.spec.num_classes, self.decoder(x_BCHW))

    def _loss_of(self, said: Outputs, target_BHW: Tensor, label_B: Tensor | None) -> Tensor:
        if "image" in self._reads:
            assert said.image_BK is not None
            assert label_B is not None
            map_ = (said.map_B1HW,) if "map" in self._reads else ()
            return self._loss(*map_, said.image_BK, label_B)
        assert said.map_B1HW is not None
        return self._loss(said.map_B1HW, on_grid(target_BHW, said.map_B1HW))

    def diverged(self, valid: Valid | None = None) -> Divergence | None:
        """Return where the epoch under way left the finite numbers, if it did; that ends the member."""
        losses = torch.stack(self._losses).tolist() if self._losses else []
        steps = [k for k, loss in enumerate(losses, self.steps - len(losses) + 1) if not math.isfinite(loss)]
        if not steps and (valid is None or math.isfinite(valid["loss"])):
            return None
        self.ended = True
        epoch, step = self.epoch + 1, steps[0] if steps else self.steps
        kind = "training" if steps else "validation"
        return Divergence(epoch, step, f"the {kind} loss is no finite number at step {step}, epoch {epoch}")

    def end_epoch(self, valid: Valid, seconds: float) -> EpochRecord:
        """Close the epoch: keep its weights if they are the best, and let the schedule see what it watches."""
        self.epoch += 1
        value = float(self.epoch) if self.spec.select == "last" else _worth(valid, self.spec.select)
        if value > self._best_value:
            self._best_value, self.best_epoch = value, self.epoch
            self._best = checkpoint.weights_of(self.decoder)
        record = EpochRecord(
            epoch=self.epoch,
            steps=self.steps,
            images=sum(self._sizes),
            lr=self._schedule.lr(self.steps - 1) if self._losses else None,
            train_loss=self._mean_loss() if self._losses else None,
            valid=dict(valid),
            seconds=seconds,
            time=time.time(),
        )
        watch = self.spec.schedule.watch  # a schedule that follows nothing has the default of another task
        goes_on = _goes_on(self.spec, self._schedule, _worth(valid, watch if watch in valid else record.watched))
        self.ended = not goes_on or self.epoch == self.spec.epochs or self.optimizer is None
        self._losses, self._sizes = [], []
        return record

    def weights(self, which: Checkpoint) -> bytes:
        """Return the file of the best or the last epoch's weights."""
        weights = self._best if which == "best" else checkpoint.weights_of(self.decoder)
        return checkpoint.to_bytes(weights, self.spec)

    def state(self) -> bytes:
        """Return everything that `restore` needs to go on after the last finished epoch."""
        return _saved(
            {
                "epoch": self.epoch,
                "steps": self.steps,
                "ended": self.ended,
                "decoder": self.decoder.state_dict(),
                "optimizer": self.optimizer.state_dict() if self.optimizer else None,
                "schedule": self._schedule.state(),
                "best": self._best,
                "best_epoch": self.best_epoch,
                "best_value": self._best_value,
            }
        )

    def restore(self, state: bytes) -> None:
        """Go on from a state of the same spec, on any device."""
        saved = _loaded(state)
        self.epoch, self.steps, self.ended = saved["epoch"], saved["steps"], saved["ended"]
        self.decoder.load_state_dict(saved["decoder"])
        if self.optimizer:
            self.optimizer.load_state_dict(saved["optimizer"])
        self._schedule.restore(saved["schedule"])
        self._best, self.best_epoch, self._best_value = saved["best"], saved["best_epoch"], saved["best_value"]

    def _mean_loss(self) -> float:
        size_S = torch.tensor(self._sizes, dtype=torch.float64)
        return float((torch.stack(self._losses).cpu().double() * size_S).sum() / size_S.sum())


def check(spec: TrialSpec) -> None:
    """Make a plug-in's optimiser and schedule once, on a layer of one weight, and take a step, save and restore.

    Raises:
        ConfigError: one cannot be made, used, or restored from what it saved (says why).
    """
    kind, name = "optimizer", spec.optimizer.name
    try:
        if spec.optimizer.plugin:
            layer = torch.nn.ParameterDict({"weight": torch.zeros(1, 1, 1, 1), "bias": torch.zeros(1)})
            for parameter in layer.values():
                parameter.grad = torch.zeros_like(parameter)
            optimizers = [cast(torch.optim.Optimizer, _optimizer(spec, layer)) for _ in range(2)]
            optimizers[0].step()
            optimizers[1].load_state_dict(_loaded(_saved(optimizers[0].state_dict())))
        kind, name = "schedule", spec.schedule.name
        if spec.schedule.plugin:
            first, second = schedule.make(spec), schedule.make(spec)
            rate: object = first.lr(0)
            if not isinstance(rate, float | int) or not math.isfinite(rate):
                raise TypeError(f"lr(0) gave {rate!r}, expected a finite number")
            _goes_on(spec, first, 0.5)
            second.restore(_loaded(_saved(first.state())))
    except Exception as error:
        asked = spec.optimizer if kind == "optimizer" else spec.schedule
        file = next((one.name for one in registry.plugins() if one.digest == asked.plugin), str(asked.plugin)[:12])
        own = isinstance(error, DflocError)
        reason = str(error) if own else f'{kind} "{name}": {type(error).__name__}: {error}'
        raise ConfigError(f"plug-in {file}: {' '.join(reason.split())}") from error


def _worth(valid: Valid, measure: str) -> float:
    """Return a measure, more is better."""
    return valid[measure] if MEASURES[measure] else -valid[measure]


def _goes_on(spec: TrialSpec, made: schedule.Schedule, value: float) -> bool:
    """Return whether a schedule goes on after an epoch; what it does not say is no end."""
    goes_on: object = made.end_epoch(value)
    if not isinstance(goes_on, bool):
        raise ConfigError(
            f'schedule "{spec.schedule.name}": end_epoch returned {goes_on!r}, expected True (go on) or False (end)'
        )
    return goes_on


def _saved(state: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _loaded(state: bytes) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(io.BytesIO(state), map_location="cpu", weights_only=True)
    return loaded


def on_grid(target_BHW: Tensor, logit_B1HW: Tensor) -> Tensor:
    """Return targets on the grid of the logits: where it is another one, those at the centres of its cells."""
    size = logit_B1HW.shape[-2:]
    if target_BHW.shape[-2:] == size:
        return target_BHW
    rows_h, columns_w = (
        (2 * torch.arange(new, device=target_BHW.device) + 1) * old // (2 * new)
        for old, new in zip(target_BHW.shape[-2:], size, strict=True)
    )
    return target_BHW[:, rows_h[:, None], columns_w]


def _optimizer(spec: TrialSpec, decoder: torch.nn.Module) -> torch.optim.Optimizer | None:
    trained = [parameter for parameter in decoder.parameters() if parameter.requires_grad]
    if not trained:
        return None
    asked = spec.optimizer
    make = registry.find("optimizer", asked.name, asked.plugin)
    made = make(trained, asked) if asked.plugin else make(trained, lr=asked.lr, weight_decay=asked.weight_decay)
    if not isinstance(made, torch.optim.Optimizer):
        raise ConfigError(f'optimizer "{asked.name}" made {type(made).__name__}, expected a torch.optim.Optimizer')
    return made
