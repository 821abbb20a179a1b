"""The training loop: one model, or several small ones side by side.

Small networks spend their time between operations rather than in them. Models of one shape can therefore be
stacked, their parameters (M, ...) and batches (M, B, ...), and stepped together; each keeps its own
samples, batch order, learning rate and length, so that it ends with the weights that it would
have had alone, to float rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from volume_lib.abilities import give_copies
from volume_lib.calls import random_state, set_random_state, undisturbed
from volume_lib.errors import InputError
from volume_lib.problems.base import Problem
from volume_lib.training.modes import USUAL, Mode, buffers_of, restore, seed_of_draws
from volume_lib.training.optimizers import OPTIMIZERS, SCHEDULES, sam_ascent
from volume_lib.training.section import TrainSettings
from volume_lib.training.stacks import Stack

EVALUATION_BATCH = 1_000
"""Samples that are evaluated at once: enough to fill the cores, few enough for a transformer's memory."""


@dataclass(eq=False)
class Trainee:
    """One model to train, on samples ``start`` to ``start + size`` of the pool that its group shares.

    ``snapshots`` are the epochs after which it is kept, the last of them the length of its training;
    ``schedule_epochs`` the epochs that the learning-rate schedule spans.
    """

    name: str
    model: nn.Module
    size: int
    batch_size: int
    snapshots: list[int]
    schedule_epochs: int
    seed: int
    start: int = 0
    train_loss: list[float] = field(default_factory=list)
    train_accs: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    test_accs: list[float] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        return self.snapshots[-1]

    @property
    def steps(self) -> int:
        """Steps of one epoch."""
        return math.ceil(self.size / self.batch_size)

    def curves(self) -> dict[str, list[float]]:
        names = ("train_loss", "test_loss", "train_accs", "test_accs")
        return {name: list(getattr(self, name)) for name in names}


def epoch_orders(trainee: Trainee) -> Iterator[Tensor]:
    """Endless (size,) sample orders of successive epochs, decided by the trainee's seed.

    A whole epoch in one batch needs no order: it stays as it is.
    """
    if trainee.steps == 1:
        while True:
            yield torch.arange(trainee.size)
    generator = torch.Generator().manual_seed(trainee.seed)
    ahead = max(1, 50_000 // trainee.size)  # many short epochs are drawn at once
    while True:
        yield from torch.rand(ahead, trainee.size, generator=generator, dtype=torch.float32).argsort(
            dim=1, stable=True
        )


class Fit:
    """Trains the models of ``trainees`` side by side; :meth:`run` does all of it.

    ``x``, ``y`` hold the samples of all trainees, ``x_test``, ``y_test`` the test samples, all on the
    device that is to do the work. Calls ``keep(trainee, epoch, state_dict)`` after each of a trainee's
    snapshots, when the last entries of the trainee's curves are those of exactly these weights on all
    samples, and ``tick(trainee, samples)`` after each epoch.
    """

    def __init__(
        self,
        problem: Problem,
        trainees: list[Trainee],
        data: tuple[Tensor, Tensor, Tensor, Tensor],
        settings: TrainSettings,
        keep: Callable[[Trainee, int, dict[str, Tensor]], None],
        tick: Callable[[Trainee, int], None],
        mode: Mode = USUAL,
    ):
        self.problem, self.settings, self.keep, self.tick = problem, settings, keep, tick
        self.mode = mode
        self.x, self.y, self.x_test, self.y_test = data
        self.trainees = list(trainees)
        self.device = self.x.device
        models = [trainee.model.to(self.device) for trainee in trainees]
        if mode.copies:
            for model in models:
                give_copies(model)
        self.stack = Stack.of(models)
        self.stack.template.eval()
        self.optimizer = OPTIMIZERS[settings.optimizer](settings.weight_decay)
        self.orders = {id(trainee): epoch_orders(trainee) for trainee in trainees}
        self.step_of_epoch = [0] * len(trainees)
        self.tables = [self._batch_table(trainee) for trainee in trainees]
        self._clear_sums()

    def run(self) -> None:
        """Train all of them. What networks draw (dropout) comes from their seed, and disturbs nobody's."""
        with undisturbed(self.device, seed_of_draws(self.trainees[0].seed)):
            self._run()

    def _run(self) -> None:
        while self.trainees:
            # all models step together until the first of them ends its epoch
            steps = min(
                trainee.steps - done for trainee, done in zip(self.trainees, self.step_of_epoch, strict=True)
            )
            self.stack.template.train(self.mode.modal)
            for offset, (indices, present) in enumerate(self._batches(steps)):
                self._step(indices, present, self._learning_rates(offset))
            ended = []
            for row, trainee in enumerate(self.trainees):
                self.step_of_epoch[row] += steps
                if self.step_of_epoch[row] == trainee.steps:
                    ended.append(row)
            self._end_epochs(ended)

    # ---- one step

    def _batch_table(self, trainee: Trainee) -> Tensor:
        """(steps, batch) pool indices of the trainee's next epoch, the last batch padded by any sample."""
        order = next(self.orders[id(trainee)]) + trainee.start
        width = min(trainee.batch_size, trainee.size)
        padding = trainee.steps * width - trainee.size
        if padding:
            order = torch.cat([order, order.new_full((padding,), trainee.start)])
        return order.view(trainee.steps, width).to(self.device)

    def _batches(self, steps: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The next batches: (M, B) pool indices, and (M, B) whether each of them counts (None: all do)."""
        tables = [
            table[done : done + steps] for table, done in zip(self.tables, self.step_of_epoch, strict=True)
        ]
        width = max(table.shape[1] for table in tables)
        indices = torch.stack([_widen(table, width) for table in tables], dim=1)
        counts = [
            [
                min(trainee.batch_size, trainee.size - step * trainee.batch_size)
                for step in range(done, done + steps)
            ]
            for trainee, done in zip(self.trainees, self.step_of_epoch, strict=True)
        ]
        sizes = torch.tensor(counts, device=self.device).T[:, :, None]
        present = torch.arange(width, device=self.device) < sizes if len(tables) > 1 else None
        for step, of_models in enumerate(zip(*counts, strict=True)):
            largest = max(of_models)
            batch = indices[step, :, :largest]
            yield batch, None if present is None or min(of_models) == largest else present[step, :, :largest]

    def _step(self, indices: Tensor, present: Tensor | None, learning_rates: Tensor | float) -> None:
        batch = self.x[indices], self.y[indices], present
        settings, parameters, gradients = self.settings, self.stack.parameters, self.stack.gradients
        state = random_state(self.device) if settings.sam_rho and self.mode.modal else None
        losses, correct = self._gradients(*batch)
        if settings.sam_rho:
            before = parameters.clone()
            buffers = buffers_of(self.stack.template) if self.mode.modal else {}
            parameters.add_(sam_ascent(parameters, gradients, settings.sam_rho, settings.sam_adaptive))
            if state is not None:  # the same units dropped as before
                set_random_state(state, self.device)
            self._gradients(*batch)
            parameters.copy_(before)
            restore(self.stack.template, buffers)  # statistics are of the network, not of the worst near it
        self.optimizer.step(parameters, gradients, learning_rates)
        self.loss_sums += losses
        self.correct_sums += correct

    def _gradients(self, x: Tensor, y: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """Leave the gradient of each model's mean batch loss; returns (M,) sums of losses and of hits."""
        outputs = self.stack.outputs(x).flatten(0, 1)
        targets = y.flatten(0, 1)
        losses = self.problem.per_sample_loss(outputs, targets).view(y.shape[:2])
        with torch.no_grad():
            correct = self.problem.correct(outputs, targets).view(y.shape[:2])
        if present is None:
            self.stack.differentiate(losses.mean(1).sum())
        else:
            losses, correct = losses * present, correct * present
            self.stack.differentiate((losses.sum(1) / present.sum(1)).sum())
        return losses.detach().sum(1, dtype=torch.float64), correct.sum(1, dtype=torch.float64)

    def _learning_rates(self, offset: int) -> Tensor | float:
        if self.settings.lr_schedule is None:
            return self.settings.learning_rate
        schedule = SCHEDULES[self.settings.lr_schedule]
        rates = []
        for trainee, done in zip(self.trainees, self.step_of_epoch, strict=True):
            steps = len(trainee.train_loss) * trainee.steps + done + offset
            rates.append(
                self.settings.learning_rate * schedule(steps / (trainee.schedule_epochs * trainee.steps))
            )
        return rates[0] if len(rates) == 1 else self.stack.parameters.new_tensor(rates)[:, None]

    # ---- the end of an epoch

    def _clear_sums(self) -> None:
        self.loss_sums = torch.zeros(len(self.trainees), dtype=torch.float64, device=self.device)
        self.correct_sums = torch.zeros_like(self.loss_sums)

    def _end_epochs(self, rows: list[int]) -> None:
        loss_sums, correct_sums = self.loss_sums.tolist(), self.correct_sums.tolist()
        self.loss_sums[rows] = 0
        self.correct_sums[rows] = 0
        finished = set()
        for row in rows:
            trainee = self.trainees[row]
            trainee.train_loss.append(loss_sums[row] / trainee.size)
            trainee.train_accs.append(correct_sums[row] / trainee.size)
            if self.mode.modal:  # batches were met in train mode
                samples = slice(trainee.start, trainee.start + trainee.size)
                figures = self.evaluate([row], self.x[samples], self.y[samples])[0]
                trainee.train_loss[-1], trainee.train_accs[-1] = figures
            if math.isnan(trainee.train_loss[-1]):
                raise InputError(
                    f"{trainee.name}: the training loss is not a number after "
                    f"{len(trainee.train_loss)} epochs; lower learning_rate ({self.settings.learning_rate:g})"
                )
        self._test(rows)
        for row in rows:
            if self._end_epoch(row):
                finished.add(row)
        going = [row for row in range(len(self.trainees)) if row not in finished]
        for row in rows:
            if row not in finished:
                self.step_of_epoch[row] = 0
                if self.trainees[row].steps > 1:
                    self.tables[row] = self._batch_table(self.trainees[row])
        if finished:
            self._keep(going)

    def _end_epoch(self, row: int) -> bool:
        """Hand the model on if it is due; whether its training is over."""
        trainee, epoch = self.trainees[row], len(self.trainees[row].train_loss)
        self.tick(trainee, trainee.size)
        target = self.settings.target_train_loss
        close = target is not None and trainee.train_loss[-1] <= target
        if not close and epoch not in trainee.snapshots:
            return False
        samples = slice(trainee.start, trainee.start + trainee.size)
        loss, accuracy = self.evaluate([row], self.x[samples], self.y[samples])[0]
        over = epoch == trainee.epochs or (target is not None and loss <= target)
        if over or epoch in trainee.snapshots:
            running = trainee.train_loss[-1], trainee.train_accs[-1]
            trainee.train_loss[-1], trainee.train_accs[-1] = loss, accuracy
            trainee.test_loss[-1], trainee.test_accs[-1] = self.evaluate([row], self.x_test, self.y_test)[0]
            self.keep(trainee, epoch, self.stack.state_dict(row))
            trainee.train_loss[-1], trainee.train_accs[-1] = running
        return over

    def _test(self, rows: list[int]) -> None:
        """Append test loss and accuracy of the models ``rows``; between evaluations the last ones stand."""
        due = []
        for row in rows:
            trainee = self.trainees[row]
            every = test_interval(trainee.epochs, trainee.size, len(self.x_test))
            if (len(trainee.train_loss) - 1) % every == 0:
                due.append(row)
            else:
                trainee.test_loss.append(trainee.test_loss[-1])
                trainee.test_accs.append(trainee.test_accs[-1])
        for row, (loss, accuracy) in zip(due, self.evaluate(due, self.x_test, self.y_test), strict=True):
            self.trainees[row].test_loss.append(loss)
            self.trainees[row].test_accs.append(accuracy)

    @torch.no_grad()
    def evaluate(self, rows: list[int], x: Tensor, y: Tensor) -> list[tuple[float, float]]:
        """Mean loss and accuracy of each of the models ``rows`` over the samples (N, ...)."""
        if not rows:
            return []
        self.stack.template.eval()
        stack = self.stack if len(rows) == len(self.trainees) else self.stack.keep(torch.tensor(rows))
        sums = torch.zeros(2, len(rows), dtype=torch.float64, device=self.device)
        before = x._version  # how often torch says that the samples were written to
        for xs, ys in zip(x.split(EVALUATION_BATCH), y.split(EVALUATION_BATCH), strict=True):
            outputs = stack.outputs(xs.expand(len(rows), *xs.shape)).flatten(0, 1)
            targets = ys.expand(len(rows), *ys.shape).flatten(0, 1)
            for total, values in zip(sums, (self.problem.per_sample_loss, self.problem.correct), strict=True):
                total += values(outputs, targets).view(len(rows), len(xs)).sum(1, dtype=torch.float64)
        if x._version != before:
            raise InputError(
                f"{self.trainees[rows[0]].name}: forward changed the samples in place, which it did not when "
                "it was asked; copy them first (x = x.clone())"
            )
        return [(loss, accuracy) for loss, accuracy in (sums / len(x)).T.tolist()]

    def _keep(self, rows: list[int]) -> None:
        """Go on with the models ``rows`` alone."""
        self.trainees = [self.trainees[row] for row in rows]
        self.tables = [self.tables[row] for row in rows]
        self.step_of_epoch = [self.step_of_epoch[row] for row in rows]
        index = torch.tensor(rows, dtype=torch.long, device=self.device)
        self.stack = self.stack.keep(index)
        self.optimizer.keep(index)
        self.loss_sums, self.correct_sums = self.loss_sums[index], self.correct_sums[index]


def test_interval(epochs: int, train_size: int, test_size: int) -> int:
    """Epochs from one test evaluation to the next.

    Often enough that a curve has a hundred points, and every epoch where the test set costs less than a
    tenth of the training, a training sample counting three times (a backward pass is two forward ones).
    """
    return max(1, min(math.ceil(epochs / 100), math.ceil(10 * test_size / (3 * train_size))))


def _widen(table: Tensor, width: int) -> Tensor:
    """``table`` (steps, B) with its first column repeated up to ``width`` columns."""
    missing = width - table.shape[1]
    return torch.cat([table, table[:, :1].expand(-1, missing)], dim=1) if missing else table
