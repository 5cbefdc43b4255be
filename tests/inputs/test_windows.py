"""Windows compared with transformers' overflowing tokens, with BERT's rule, and with the graph."""

import os
import tracemalloc
from itertools import chain, islice

import numpy as np
import pytest

from kbert.errors import InputError
from kbert.inputs import windows as eager
from kbert.inputs.packer import Packer
from kbert.inputs.windows import packed_windows, stack, windows
from kbert.text.form import Form
from kbert.text.tokenizer import Tokenizer

BERT = Form((101,), (102,), (102,))
FORMS = [BERT, Form((0,), (2, 2), (2,), (0, 0)), Form((), (4,), (4, 3), last_segment=2), Form()]
SIZES = [(5, 2), (5, 0), (2, 1), (1, 0), (7, 6), (53, 13), (211, 3)]
NUMBERS = ("text", "start", "end", "own_start", "own_end", "column")


def texts_of(lengths, seed=13):
    chance = np.random.default_rng(seed)
    return [chance.integers(0, 997, length).tolist() for length in lengths]


def test_the_example_of_the_module_comes_true():
    found = list(windows(range(10), window=5, stride=2))
    assert [window.ids for window in found] == [[0, 1, 2, 3, 4], [3, 4, 5, 6, 7], [6, 7, 8, 9]]
    assert [(w.start, w.end) for w in found] == [(0, 5), (3, 8), (6, 10)]
    assert [(w.own_start, w.own_end) for w in found] == [(0, 4), (4, 7), (7, 10)]


def test_a_text_that_fits_is_one_window():
    for length in (0, 1, 4, 5):
        (window,) = windows(range(length), window=5, stride=2, text=7)
        assert window == (list(range(length)), 7, 0, length, 0, length, 0)
    assert len(list(windows(range(6), window=5, stride=2))) == 2


@pytest.fixture(scope="module")
def reference(data_dir):
    from transformers import BertTokenizer

    return BertTokenizer.from_pretrained(data_dir / "vocab" / "bert-base-uncased")


WORDS = "the a cat dog of it was here running , away from nothing ! embeddings"


def words(length, seed=17):
    return " ".join(np.random.default_rng(seed).choice(WORDS.split(), length).tolist())


@pytest.mark.parametrize(("max_length", "stride"), [(9, 0), (9, 3), (9, 6), (23, 5), (61, 20)])
def test_windows_are_the_overflowing_tokens_of_transformers(reference, max_length, stride):
    texts = [words(length) for length in (0, 1, 7, 8, 19, 101)]
    expected = reference(
        texts, truncation=True, max_length=max_length, stride=stride,
        return_overflowing_tokens=True,
    )  # fmt: skip
    ids = reference(texts, add_special_tokens=False)["input_ids"]
    found = list(packed_windows(Packer(BERT, 0, max_length), ids, stride))
    assert [row[0] for _, row in found] == expected["input_ids"]
    assert [row[1] for _, row in found] == expected["token_type_ids"]
    assert [window.text for window, _ in found] == expected["overflow_to_sample_mapping"]


@pytest.mark.parametrize("name", ["bert-base-uncased", "roberta-base"])
@pytest.mark.parametrize(("max_length", "stride"), [(13, 0), (13, 2), (23, 7), (61, 20)])
def test_questions_stand_before_each_window_as_in_transformers(data_dir, name, max_length, stride):
    import transformers

    kind = {"roberta-base": "RobertaTokenizer"}.get(name, "BertTokenizer")
    theirs = getattr(transformers, kind).from_pretrained(data_dir / "vocab" / name)
    texts = [words(length) for length in (1, 7, 8, 19, 101)]
    questions = [words(length, seed=23) for length in (1, 2, 0, 3, 4)]
    expected = theirs(
        questions, texts, truncation="only_second", max_length=max_length, stride=stride,
        return_overflowing_tokens=True, return_token_type_ids=True, return_offsets_mapping=True,
    )  # fmt: skip
    packer = Packer(Form.from_rust(theirs._tokenizer), 0, max_length)
    ids = theirs(texts, add_special_tokens=False)["input_ids"]
    asked = theirs(questions, add_special_tokens=False)["input_ids"]
    found = list(packed_windows(packer, ids, stride, asked))
    assert [row for _, row in found] == list(
        zip(expected["input_ids"], expected["token_type_ids"], strict=True)
    )
    for number, (window, (token_ids, _)) in enumerate(found):
        of_text = [i for i, part in enumerate(expected.sequence_ids(number)) if part == 1]
        assert [*range(window.column, window.column + len(window.ids))] == of_text
        assert [token_ids[i] for i in of_text] == ids[window.text][window.start : window.end]


@pytest.mark.parametrize("size", SIZES)
def test_a_token_is_its_own_windows_where_it_has_most_context_as_in_bert(size):
    """`_check_is_max_context` of google-research/bert, run_squad.py, in hundredths of a token."""
    for length in [*range(23), 101, 211, 499]:
        found = list(windows(range(length), *size))
        for token in range(length):
            best, chosen = None, None
            for number, window in enumerate(found):
                if window.start <= token < window.end:
                    left, right = token - window.start, window.end - 1 - token
                    score = 100 * min(left, right) + (window.end - window.start)
                    if best is None or score > best:
                        best, chosen = score, number
            own = [n for n, w in enumerate(found) if w.own_start <= token < w.own_end]
            assert own == [chosen], (length, token)


def test_windows_are_cut_when_they_are_asked_for():
    read = []
    ids = (read.append(token) or token for token in range(10**9))
    found = windows(ids, window=5, stride=2)
    assert read == []
    assert [window.start for window in islice(found, 3)] == [0, 3, 6]
    assert len(read) == 14  # the third window and the step after it, which bounds its own tokens


@pytest.fixture(scope="module")
def tokenizer(data_dir):
    return Tokenizer.from_folder(data_dir / "vocab" / "bert-base-uncased")


def peak_of_windows(tokenizer, num_words, as_list):
    """Bytes at the peak while a document is tokenised, cut, packed, padded and answered."""
    paragraphs = [words(100, seed=number) for number in range(num_words // 100)]
    ids = chain.from_iterable(tokenizer([paragraph])[0] for paragraph in paragraphs)
    ids = list(ids) if as_list else ids
    packer = Packer(tokenizer.form, tokenizer.pad_id, max_length=128)
    num_windows = num_tokens = 0
    tracemalloc.start()
    found = packed_windows(packer, [ids], stride=32)
    while batch := list(islice(found, 13)):
        features = packer.pad([row for _, row in batch], 128)
        outputs = features["token_ids"][:, :, np.newaxis].astype(np.float32)
        num_tokens += len(eager.own_outputs(outputs, stack([window for window, _ in batch])))
        num_windows += len(batch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num_tokens >= num_words
    assert num_windows > num_words / 126
    return peak


@pytest.mark.parametrize("as_list", [False, True])
def test_windows_over_100_000_words_take_the_memory_of_a_batch(tokenizer, as_list):
    peak_of_windows(tokenizer, 1_000, as_list)  # what is made once
    small = peak_of_windows(tokenizer, 10_000, as_list)
    large = peak_of_windows(tokenizer, 100_000, as_list)
    # Python keeps up to 2,000 freed tuples to use again. All windows would take over a megabyte.
    assert large < small + 200_000
    assert large < 500_000


def test_a_stride_that_is_not_smaller_than_the_window_is_refused():
    for stride in (5, 7, -1):
        with pytest.raises(
            InputError, match=f"of 0 or more and less than the window of 5 tokens, came {stride}: t"
        ):
            windows([11], 5, stride)
    with pytest.raises(InputError, match="window of one token or more, came 0: raise max_length"):
        windows([11], 0, 0)


def test_a_question_that_leaves_no_room_for_windows_is_refused():
    packer = Packer(BERT, 0, max_length=13)
    texts, questions = [[7] * 99] * 2, [[11], [11] * 7]
    with pytest.raises(
        InputError, match=r"the window of 3 tokens \(max_length=13, text 1\), came 3: take a small"
    ):
        list(packed_windows(packer, texts, 3, questions))
    with pytest.raises(
        InputError, match=r"one token or more, came -2 \(max_length=13, text 0\): raise max_length"
    ):
        list(packed_windows(packer, texts, 0, [[11] * 12] * 2))


def test_the_mean_gives_every_window_one_vote():
    probabilities = np.array([[0.5, 0.5], [0.75, 0.25], [1, 0], [0.25, 0.75]], np.float32)
    mean = eager.mean_of_windows(probabilities, np.array([0, 1, 1, 1]))
    np.testing.assert_allclose(mean, [[0.5, 0.5], [2 / 3, 1 / 3]], rtol=1e-6)
    assert mean.dtype == np.float32


def brute_spans(start_scores, end_scores, stacked, longest):
    best = {}
    for number in range(len(stacked.text)):
        text, start, end = (int(field[number]) for field in stacked[1:4])
        best.setdefault(text, (-np.inf, 0, 0))
        for first in range(start, end):
            for last in range(first, min(end, first + longest)):
                shift = int(stacked.column[number]) - start
                score = start_scores[number, first + shift] + end_scores[number, last + shift]
                if score > best[text][0]:
                    best[text] = (score, first, last + 1)
    return best


def example(form, questions=True, seed=29):
    """Packed windows of texts, and random scores for their columns."""
    packer = Packer(form, 0, 19)
    texts = texts_of([0, 1, 7, 13, 14, 53, 3, 101])
    asked = texts_of([3, 0, 5, 2, 1, 4, 7, 6], seed=19) if questions else None
    found = list(packed_windows(packer, texts, 5, asked))
    chance = np.random.default_rng(seed)
    # Whole numbers: equal scores are common, and the first must win.
    scores = chance.integers(-3, 4, (3, len(found), 19)).astype(np.float32)
    return packer, texts, asked, found, scores


@pytest.mark.parametrize("longest", [1, 3, 23])
@pytest.mark.parametrize("form", FORMS)
def test_the_best_span_of_a_text_is_the_best_of_its_windows(form, longest):
    _, texts, _, found, scores = example(form)
    stacked = stack([window for window, _ in found])
    spans = eager.spans_of_windows(scores[0], scores[1], stacked, longest)
    answers = eager.best_spans(spans)
    assert answers.text.tolist() == list(range(len(texts)))
    expected = brute_spans(scores[0], scores[1], stacked, longest)
    for text, start, end, score in zip(*answers, strict=True):
        assert (score, start, end) == expected[text], text


def test_a_span_leads_back_to_the_characters_of_the_document(tokenizer):
    document = f"{words(300)} the answer is Obi-Wan Kenobi ! {words(200)}"
    (encoding,) = tokenizer.encode([document])
    packer = Packer(tokenizer.form, tokenizer.pad_id, 64)
    (question,) = tokenizer(["who ?"])
    found = list(packed_windows(packer, [encoding.ids], 16, [question]))
    name = tokenizer(["Obi-Wan Kenobi"])[0]
    start_scores, end_scores = np.zeros((2, len(found), 64), np.float32)
    for number, (_, (token_ids, _)) in enumerate(found):
        for column in range(len(token_ids)):
            if token_ids[column : column + len(name)] == name:
                start_scores[number, column] = end_scores[number, column + len(name) - 1] = 5
    stacked = stack([window for window, _ in found])
    spans = eager.spans_of_windows(start_scores, end_scores, stacked, longest=30)
    ((_, start, end, _),) = zip(*eager.best_spans(spans), strict=True)
    first, last = encoding.offsets[start][0], encoding.offsets[end - 1][1]
    assert document[first:last] == "Obi-Wan Kenobi"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("questions", [True, False])
def test_own_outputs_are_every_token_once_and_in_order(form, questions):
    packer, texts, _, found, _ = example(form, questions)
    batches, found = [], iter(found)
    while batch := list(islice(found, 3)):
        features = packer.pad([row for _, row in batch], 19)
        outputs = features["token_ids"][:, :, np.newaxis]
        batches.append(eager.own_outputs(outputs, stack([window for window, _ in batch])))
    assert np.concatenate(batches)[:, 0].tolist() == list(chain.from_iterable(texts))


def test_no_windows_have_no_answers():
    stacked, scores = stack([]), np.zeros((0, 19), np.float32)
    assert eager.own_outputs(scores, stacked).shape == (0,)
    spans = eager.best_spans(eager.spans_of_windows(scores, scores, stacked, 7))
    assert [len(field) for field in spans] == [0, 0, 0, 0]


def test_a_word_is_answered_by_its_first_token():
    words = [0, 0, None, 1, 3, 3, 3, 4, None]
    first = eager.first_tokens(words)
    assert first.tolist() == [True, False, False, True, True, False, False, True, False]
    assert eager.first_tokens([]).tolist() == []


def in_graph(function, *tensors):
    """Through a tf.function, so that no size is known when it is traced."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    def open_spec(tensor):
        if isinstance(tensor, tf.RaggedTensor):
            return tf.RaggedTensorSpec([None, None], tensor.dtype)
        return tf.TensorSpec([None] * tensor.shape.rank, tensor.dtype)

    tensors = [t if hasattr(t, "dtype") and hasattr(t, "shape") else ragged(t) for t in tensors]
    tensors = [tf.convert_to_tensor(t) if isinstance(t, np.ndarray) else t for t in tensors]
    signature = [open_spec(tensor) for tensor in tensors]
    return tf.function(function, input_signature=signature, autograph=False)(*tensors)


def ragged(rows):
    import tensorflow as tf

    values = np.array(list(chain.from_iterable(rows)), np.int32)
    return tf.RaggedTensor.from_row_lengths(values, np.array([len(r) for r in rows], np.int64))


def assert_same_windows(found, expected):
    assert found.ids.to_list() == [window.ids for window in expected]
    for name in NUMBERS:
        assert getattr(found, name).dtype == "int32"
        assert getattr(found, name).numpy().tolist() == [getattr(w, name) for w in expected], name


@pytest.mark.parametrize("lengths", [[0, 1, 7, 499, 5, 0, 53, 212], [0], [5], []])
@pytest.mark.parametrize("size", SIZES)
def test_the_graph_cuts_windows_as_python_does(size, lengths):
    from kbert.inputs.windows_in_graph import windows_in_graph

    texts = texts_of(lengths)
    found = in_graph(lambda ids: windows_in_graph(ids, *size), texts)
    expected = [w for n, text in enumerate(texts) for w in windows(text, *size, n)]
    assert_same_windows(found, expected)


@pytest.mark.parametrize("questions", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_the_graph_packs_windows_as_python_does(form, questions):
    from kbert.inputs.windows_in_graph import packed_windows_in_graph

    packer, texts, asked, expected, _ = example(form, questions)
    given = [texts, asked] if questions else [texts]
    found, features = in_graph(
        lambda ids, *asked: packed_windows_in_graph(packer, ids, 5, *asked), *given
    )
    assert_same_windows(found, [window for window, _ in expected])
    batch = packer.pad([row for _, row in expected], 19)
    for name, array in batch.items():
        assert features[name].numpy().tolist() == array.tolist(), name


@pytest.mark.parametrize("form", FORMS)
def test_the_graph_merges_windows_as_python_does(form):
    import tensorflow as tf

    from kbert.inputs import windows_in_graph as graph

    packer, texts, asked, expected, scores = example(form)
    stacked = stack([window for window, _ in expected])
    starts, ends, outputs = scores

    def merged(ids, asked, starts, ends, outputs):
        found, _ = graph.packed_windows_in_graph(packer, ids, 5, asked)
        spans = graph.spans_of_windows(starts, ends, found, 7)
        mean = graph.mean_of_windows(outputs, found.text)
        tokens = graph.own_outputs(outputs[:, :, tf.newaxis], found)
        return spans, graph.best_spans(spans), mean, tokens

    spans, best, mean, tokens = in_graph(merged, texts, asked, starts, ends, outputs)
    ours = eager.spans_of_windows(starts, ends, stacked, 7)
    for found, wanted in ((spans, ours), (best, eager.best_spans(ours))):
        for name in found._fields:
            assert getattr(found, name).numpy().tolist() == getattr(wanted, name).tolist(), name
    expected_mean = eager.mean_of_windows(outputs, stacked.text)
    np.testing.assert_allclose(mean.numpy(), expected_mean, rtol=1e-6, atol=1e-6)
    expected_tokens = eager.own_outputs(outputs[:, :, np.newaxis], stacked)
    assert tokens.row_lengths().numpy().tolist() == [len(ids) for ids in texts]
    assert tokens.flat_values.numpy().tolist() == expected_tokens.tolist()


def test_the_graph_finds_first_tokens_as_python_does():
    from kbert.inputs.windows_in_graph import first_tokens

    rows = [[0, 0, -1, 1, 3, 3], [], [0], [0, 1], [-1], [1, 1, 2]]
    expected = [eager.first_tokens([None if w < 0 else w for w in row]).tolist() for row in rows]
    assert in_graph(first_tokens, rows).to_list() == expected


def test_the_graph_refuses_windows_that_cannot_move_on():
    import tensorflow as tf

    from kbert.inputs.windows_in_graph import packed_windows_in_graph, windows_in_graph

    with pytest.raises(InputError, match="less than the window of 5 tokens, came 5: take a small"):
        in_graph(lambda ids: windows_in_graph(ids, 5, 5), [[7]])
    packer = Packer(BERT, 0, max_length=13)

    def asked(ids, questions):
        return packed_windows_in_graph(packer, ids, 3, questions)[1]

    assert in_graph(asked, [[7] * 99], [[11] * 6])["token_ids"].shape == (96, 13)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="not longer than the stride of 3 tokens: raise max_l"
    ):
        in_graph(asked, [[7] * 99], [[11] * 7])
