"""Taggers by name, at the sizes in which people use them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import Array

from difana._errors import ConfigError, nearest
from difana.nn.taggers._base import Tagger
from difana.nn.taggers.gn2 import VertexTagger
from difana.nn.taggers.image import ImageCNN
from difana.nn.taggers.lgatr_slim import SLIM_NANO, LGATrSlim
from difana.nn.taggers.lorentz_net import LorentzNet
from difana.nn.taggers.lstm import LSTM
from difana.nn.taggers.particle_net import LITE, ParticleNet
from difana.nn.taggers.particle_transformer import ParticleTransformer
from difana.nn.taggers.pelican import NANO, PELICAN
from difana.nn.taggers.pfn import EFN, PFN
from difana.nn.taggers.transformer import LLoCaTransformer, Transformer

TAGGERS: Mapping[str, tuple[Callable[..., Tagger], Mapping[str, Any]]] = {
    "efn": (EFN, {}),
    "gn2": (VertexTagger, {}),
    "image": (ImageCNN, {}),
    "lgatr-slim": (LGATrSlim, {}),
    "lgatr-slim-nano": (LGATrSlim, SLIM_NANO),
    "lloca": (LLoCaTransformer, {}),
    "lloca-small": (LLoCaTransformer, {"width": 32, "heads": 2, "blocks": 2}),
    "lorentznet": (LorentzNet, {}),
    "lorentznet-small": (LorentzNet, {"width": 24, "blocks": 3}),
    "lstm": (LSTM, {}),
    "part": (ParticleTransformer, {}),
    "particlenet": (ParticleNet, {}),
    "particlenet-lite": (ParticleNet, LITE),
    "pelican": (PELICAN, {}),
    "pelican-nano": (PELICAN, NANO),
    "pfn": (PFN, {}),
    "transformer": (Transformer, {}),
    "transformer-small": (Transformer, {"width": 32, "heads": 2, "blocks": 2}),
}
"""Class and options by name."""


def tagger_named(name: str, outputs: int = 2, *, key: Array, **options: Any) -> Tagger:
    """Return a new tagger.

    Args:
        name: One of ``TAGGERS``.
        outputs: Number of classes.
        key: Random key of the initialisation.
        **options: Options of the class, such as ``coordinates`` and ``extras``.

    Raises:
        ConfigError: If there is none of this name.

    Example:
        >>> import jax
        >>> type(tagger_named("pelican-nano", key=jax.random.key(0))).__name__
        'PELICAN'
        >>> tagger_named("pelikan", key=jax.random.key(0))
        Traceback (most recent call last):
        difana._errors.ConfigError: no tagger 'pelikan', known: efn, ... Did you mean 'pelican'?
    """
    if name not in TAGGERS:
        known = ", ".join(TAGGERS)
        raise ConfigError(f"no tagger '{name}', known: {known}.{nearest(name, TAGGERS)}")
    kind, own = TAGGERS[name]
    return kind(outputs, **own, **options, key=key)
