"""SentencePiece's operation, with models made for it here.

`SentencepieceTokenizer` takes a model file: pieces with scores, and a table that says what is
written for a character or a few. With tables and pieces of its own making it does more than
SentencePiece's own models: it cuts texts into words, and merges the bytes of GPT-2.
"""

import hashlib
from collections.abc import Sequence

import tensorflow as tf
import tensorflow_text as tf_text

from kbert.text.in_graph.characters import precompiled

UNIGRAM, BPE = 1, 2  # TrainerSpec.ModelType


def operation(
    pieces: Sequence[tuple[str, float]], unknown: int, images: dict[bytes, str], **settings
) -> tf_text.SentencepieceTokenizer:
    """The operation for a model.

    Args:
        pieces: (piece, score) in id order.
        unknown: the id of the piece for what no piece holds; no text becomes it otherwise.
        images: what is written for characters, as in `characters.precompiled`.
        settings: `model_type`, UNIGRAM if not given; `out_type`, tf.int32 if not given.
    """
    from sentencepiece import sentencepiece_model_pb2 as files

    proto = files.ModelProto()
    kinds = files.ModelProto.SentencePiece
    for number, (piece, score) in enumerate(pieces):
        kind = kinds.UNKNOWN if number == unknown else kinds.NORMAL
        proto.pieces.add(piece=piece, score=score, type=kind)
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    trainer.model_type = settings.get("model_type", UNIGRAM)
    trainer.unk_id = unknown
    trainer.bos_id = trainer.eos_id = trainer.pad_id = -1
    normalizer.add_dummy_prefix = False
    normalizer.remove_extra_whitespaces = False
    normalizer.escape_whitespaces = False
    normalizer.precompiled_charsmap = precompiled(images)
    model = proto.SerializeToString()
    # In a process that loads SavedModels, operations of one name share one model.
    name = f"sentencepiece_{hashlib.sha256(model).hexdigest()[:32]}"
    return tf_text.SentencepieceTokenizer(
        model, out_type=settings.get("out_type", tf.int32), name=name
    )


def as_utf_8(texts: tf.Tensor) -> tf.Tensor:
    """The texts with U+FFFD for what is not UTF-8, as `bytes.decode("utf-8", "replace")` has it."""
    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")


def keep(ragged: tf.RaggedTensor, mask: tf.Tensor) -> tf.RaggedTensor:
    """The values of a ragged tensor (B, None) where a mask of all its values is true."""
    before = tf.concat([[0], tf.cumsum(tf.cast(mask, ragged.row_splits.dtype))], 0)
    return tf.RaggedTensor.from_row_splits(
        tf.boolean_mask(ragged.values, mask), tf.gather(before, ragged.row_splits), validate=False
    )
