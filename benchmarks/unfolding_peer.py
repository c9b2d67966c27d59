"""The PyPI package omnifold on the events of benchmarks/unfolding.py, in its own environment.

python benchmarks/unfolding_peer.py events.npz settings.json result.json
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf
from omnifold import MLP, DataLoader, MultiFold
from omnifold.net import weighted_binary_crossentropy

# version 0.1.36 does not say so itself, and later versions of Keras cannot clone its networks
keras.saving.register_keras_serializable()(weighted_binary_crossentropy)


def main() -> None:
    events, settings = np.load(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    gen, reco, data = (events[name].astype(np.float32) for name in ("gen", "reco", "data"))
    seconds, found = [], []
    for run in range(settings["runs"]):
        tf.random.set_seed(run)
        measured = DataLoader(reco=data[:, None], normalize=True)
        simulated = DataLoader(reco=reco[:, None], gen=gen[:, None], normalize=True)
        nets = [MLP(1, layer_sizes=settings["layers"], activation="silu") for _ in range(2)]
        with tempfile.TemporaryDirectory() as folder:
            unfold = MultiFold(
                f"run_{run}", *nets, measured, simulated, niter=settings["iterations"],
                batch_size=settings["batch_size"], epochs=settings["epochs"],
                lr=settings["learning_rate"], early_stop=settings["patience"],
                train_frac=0.8, weights_folder=folder, log_folder=folder, verbose=False,
            )  # fmt: skip
            begin = time.perf_counter()
            unfold.Unfold()
            seconds.append(time.perf_counter() - begin)
        mean = float(np.average(gen, weights=unfold.weights_push))
        sd = float(np.sqrt(np.average((gen - mean) ** 2, weights=unfold.weights_push)))
        found.append([mean, sd])
        print(f"run {run}: {seconds[-1]:.1f} s, mean and sd {mean:.4f} {sd:.4f}", flush=True)
    result = {"seconds": seconds, "moments": found, "tensorflow": tf.__version__}
    Path(sys.argv[3]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
