"""Train 20 steps by a host, or go on from its last checkpoint: ``python train.py HOST FOLDER [KILLED_AT]``.

Writes FOLDER/weights.pt at the end. A checkpoint is written after every epoch of five steps; KILLED_AT is the step
after which the process kills itself.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from adamod_array.schedules import cosine_decay, linear_warmup
from adamod_array.torch import AdaMod, scheduler

STEPS, EVERY = 20, 5


class Points(torch.utils.data.Dataset):
    """Pairs that are the same in every process, and in every batch: Lightning goes on with another one of the epoch."""

    def __len__(self) -> int:
        return 8 * EVERY

    def __getitem__(self, i: int) -> dict[str, Any]:
        random = torch.Generator().manual_seed(i % 8)
        x = torch.randn(4, generator=random)
        return {"x": x, "labels": x.sum(dim=0, keepdim=True)}


class Network(torch.nn.Module):
    """A small network whose forward gives the loss, as a Trainer wants it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))

    def forward(self, x: Any, labels: Any) -> dict[str, Any]:
        return {"loss": (self.layers(x) - labels).square().mean()}


def optimizer_of(network: Network) -> tuple[Any, Any]:
    """Two groups, and a warmup with decay."""
    matrices, vectors = ([p for p in network.parameters() if (p.ndim > 1) == large] for large in (True, False))
    optimizer = AdaMod([{"params": matrices, "weight_decay": 0.1}, {"params": vectors}], lr=0.1, beta3=0.9)
    return optimizer, scheduler(optimizer, linear_warmup(5) * cosine_decay(STEPS))


def kill(step: int, killed_at: int) -> None:
    """End the process as a machine that fails would."""
    if step == killed_at:
        os.kill(os.getpid(), signal.SIGKILL)


def by_lightning(folder: Path, killed_at: int) -> Network:
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = Network()

        def training_step(self, batch: Any, index: int) -> Any:
            return self.network(**batch)["loss"]

        def configure_optimizers(self) -> Any:
            optimizer, schedule = optimizer_of(self.network)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

        def on_train_batch_end(self, *_: Any) -> None:
            kill(self.global_step, killed_at)

    keep = lightning.pytorch.callbacks.ModelCheckpoint(folder, save_on_train_epoch_end=True, save_top_k=-1)
    trainer = lightning.Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        logger=False,
        callbacks=[keep],
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    saved = sorted(folder.glob("*.ckpt"), key=lambda path: path.stat().st_mtime)
    module = Module()
    loader = torch.utils.data.DataLoader(Points(), batch_size=8)
    trainer.fit(module, loader, ckpt_path=str(saved[-1]) if saved else None, weights_only=False)
    return module.network


def by_transformers(folder: Path, killed_at: int) -> Network:
    import transformers

    class Killer(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            kill(state.global_step - 1, killed_at)  # what was asked for at a step is saved before the next

    network = Network()
    trainer = transformers.Trainer(
        model=network,
        args=transformers.TrainingArguments(
            output_dir=str(folder),
            max_steps=STEPS,
            save_steps=EVERY,
            per_device_train_batch_size=8,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            remove_unused_columns=False,
        ),
        train_dataset=Points(),
        optimizers=optimizer_of(network),
        callbacks=[Killer()],
    )
    trainer.train(resume_from_checkpoint=any(folder.glob("checkpoint-*")))
    return network


def by_accelerate(folder: Path, killed_at: int) -> Network:
    import accelerate

    network: Any = Network()
    optimizer, schedule = optimizer_of(network)
    loader = torch.utils.data.DataLoader(Points(), batch_size=8)
    accelerator = accelerate.Accelerator(cpu=True)
    network, optimizer, loader, schedule = accelerator.prepare(network, optimizer, loader, schedule)
    saved = sorted(folder.glob("at-*"))
    begin = int(saved[-1].name.removeprefix("at-")) if saved else 0
    if saved:
        accelerator.load_state(str(saved[-1]))
    for step, batch in enumerate(itertools.chain(*[loader] * ((STEPS - begin) // EVERY)), start=begin + 1):
        optimizer.zero_grad()
        accelerator.backward(network(**batch)["loss"])
        optimizer.step()
        schedule.step()
        if step % EVERY == 0:
            accelerator.save_state(str(folder / f"at-{step:02}"))
        kill(step, killed_at)
    result: Network = network
    return result


HOSTS = {"lightning": by_lightning, "transformers": by_transformers, "accelerate": by_accelerate}

if __name__ == "__main__":
    host, folder, *rest = sys.argv[1:]
    network = HOSTS[host](Path(folder), int(rest[0]) if rest else -1)
    torch.save(network.state_dict(), Path(folder) / "weights.pt")
