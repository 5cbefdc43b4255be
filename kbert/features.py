"""Vectors of texts for a classical classifier: any layer of an encoder, pooled in any way.

Letters: N texts, T tokens, D the encoder's width.
"""

import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import keras
import numpy as np

from kbert.checkpoint import Checkpoint
from kbert.errors import InputError
from kbert.heads.pooling import pooled
from kbert.inference import Predictor
from kbert.inputs.packer import Packer
from kbert.layers.encoder import blocks
from kbert.tasks.parts import Prepared
from kbert.tasks.texts import Texts
from kbert.weights import names


def features(
    loaded: Checkpoint,
    texts: Iterable[str],
    layer: int = -1,
    pooling: str = "cls",
    max_length: int = 128,
    batch_size: int = 64,
) -> Iterator[np.ndarray]:
    """One vector a text, in their order; read and computed window by window.

    Args:
        loaded: what `kbert.load` gives.
        texts: strings.
        layer: 0 for the embeddings, 1 for what the first block gives, and so on as transformers
            counts its `hidden_states`; or from the end, -1 the last.
        pooling: "cls", the first token; "mean" or "max", over the real tokens; "pooler", what the
            checkpoint's own classifiers take, of the last layer.
        max_length: tokens of a text, with the special ones; the rest is cut.
        batch_size: rows that are computed together.

    Returns:
        An iterator of float32 (D,).

    Raises:
        InputError: there is no such layer, or no pooler in the checkpoint.
    """
    model = feature_model(loaded.encoder, layer, pooling)
    if max_length > loaded.config.max_length:
        raise InputError(
            f"max_length {max_length} is above the {loaded.config.max_length} positions of the "
            f"checkpoint. Choose {loaded.config.max_length} or less."
        )
    return Predictor(model, _Vectors(max_length), loaded.tokenizer, batch_size)(texts)


def feature_model(encoder: keras.Model, layer: int = -1, pooling: str = "cls") -> keras.Model:
    """The encoder up to a layer, and one vector per text: inputs -> float32 (B, D)."""
    states = hidden_states(encoder)
    if not -len(states) <= layer < len(states):
        raise InputError(
            f"layer {layer}: there are 0 (embeddings) to {len(states) - 1}, or -1 (the last) to "
            f"{-len(states)}."
        )
    is_last = layer % len(states) == len(states) - 1
    if pooling == "pooler" and not is_last:
        raise InputError(f"layer {layer}: the pooler reads the last layer only; take cls or mean.")
    cut = keras.Model(encoder.input, {"sequence": states[layer]})
    cut.head_parts = getattr(encoder, "head_parts", None)
    # In float32 whatever the encoder computes in; the file holds float32.
    x = keras.layers.Identity(dtype="float32", name="features")(pooled(cut, pooling))
    model = keras.Model(encoder.input, x, name="features")
    if pooling == "pooler" and (new := names.load_head(model, encoder, "SequenceClassification")):
        raise InputError(f"the checkpoint has no pooler ({'; '.join(new)}): take cls or mean.")
    return model


def hidden_states(encoder: keras.Model) -> list:
    """The sequences before, between and after the blocks, as tensors of the encoder's graph.

    Numbered as transformers' `hidden_states`: what goes into the first block, into the second …,
    and last the encoder's own output, with what may stand after the last block.
    """
    # A block that stands for several layers is called for each: a node of the graph every time.
    # Blocks of one group (ALBERT) follow each other at every call.
    calls = (
        zip(*(layer._inbound_nodes for layer in group), strict=True)
        for group in blocks(encoder).values()
    )
    nodes = chain.from_iterable(chain.from_iterable(calls))
    return [*(node.input_tensors[0] for node in nodes), encoder.output["sequence"]]


def write(file: str | os.PathLike, vectors: Iterable[np.ndarray], **columns: Sequence[str]) -> int:
    """Vectors to an .npz as they come, so that a file of any size passes in constant memory.

    Args:
        file: `features`, float32 (N, D), is in it; written beside, then renamed.
        vectors: float32 (D,) each.
        columns: more arrays of N strings, "labels"; read when all vectors have come.

    Returns:
        N.

    Raises:
        InputError: no vector came.
    """
    file = Path(file)
    rows, beside = (file.with_name(f"{file.name}.{part}") for part in ("rows", "part"))
    number = 0
    try:
        with rows.open("wb") as opened:
            for vector in vectors:
                opened.write(np.ascontiguousarray(vector, "<f4"))
                number += 1
        if not number:
            raise InputError("expected texts, came none: there are no features to write.")
        with zipfile.ZipFile(beside, "w") as archive, rows.open("rb") as opened:
            with archive.open("features.npy", "w", force_zip64=True) as entry:
                _write_array(entry, opened, (number, len(vector)))
            for name, values in columns.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, np.array(values, str))
        os.replace(beside, file)
    finally:
        for part in (rows, beside):
            part.unlink(missing_ok=True)
    return number


def _write_array(entry: BinaryIO, rows: BinaryIO, shape: tuple[int, int]):
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(entry, header)
    shutil.copyfileobj(rows, entry, 1 << 20)


@dataclass(frozen=True)
class _Vectors:
    """What `Predictor` asks of a task: texts as rows, outputs as they are."""

    max_length: int

    @property
    def texts(self) -> Texts:
        return Texts(("text",), self.max_length)

    def packer(self, tokenizer) -> Packer:
        return self.texts.packer(tokenizer)

    def prepare(self, inputs: Sequence[Any], tokenizer) -> Prepared:
        return self.texts.prepare(inputs, tokenizer)

    def merged(self, outputs, prepared):
        return outputs

    def answers(self, outputs, prepared):
        return iter(outputs)
