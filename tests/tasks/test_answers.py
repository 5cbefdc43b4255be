"""Exact match and F1 of answers, beside SQuAD's official scripts written down once more."""

import collections
import random
import re
import string

import pytest

from kbert.tasks.answers import scores_of_answers, scores_with_nothing

# The official scripts, in their own words (Rajpurkar et al., evaluate-v1.1.py, evaluate-v2.0.py).


def normalize_answer(s):
    def remove_articles(text):
        return re.sub(r"\b(a|an|the)\b", " ", text)

    def remove_punc(text):
        exclude = set(string.punctuation)
        return "".join(ch for ch in text if ch not in exclude)

    return " ".join(remove_articles(remove_punc(s.lower())).split())


def f1_of_1(prediction, ground_truth):
    prediction_tokens = normalize_answer(prediction).split()
    ground_truth_tokens = normalize_answer(ground_truth).split()
    common = collections.Counter(prediction_tokens) & collections.Counter(ground_truth_tokens)
    num_same = sum(common.values())
    if num_same == 0:
        return 0
    precision = 1.0 * num_same / len(prediction_tokens)
    recall = 1.0 * num_same / len(ground_truth_tokens)
    return (2 * precision * recall) / (precision + recall)


def f1_of_2(a_gold, a_pred):
    gold_toks = normalize_answer(a_gold).split() if a_gold else []
    pred_toks = normalize_answer(a_pred).split() if a_pred else []
    common = collections.Counter(gold_toks) & collections.Counter(pred_toks)
    num_same = sum(common.values())
    if len(gold_toks) == 0 or len(pred_toks) == 0:
        return int(gold_toks == pred_toks)
    if num_same == 0:
        return 0
    precision = 1.0 * num_same / len(pred_toks)
    recall = 1.0 * num_same / len(gold_toks)
    return (2 * precision * recall) / (precision + recall)


def evaluate_1(preds, golds):
    f1 = exact_match = 0
    for prediction, ground_truths in zip(preds, golds, strict=True):
        exact_match += max(
            normalize_answer(prediction) == normalize_answer(truth) for truth in ground_truths
        )
        f1 += max(f1_of_1(prediction, truth) for truth in ground_truths)
    return {"exact_match": 100.0 * exact_match / len(preds), "f1": 100.0 * f1 / len(preds)}


def raw_scores_2(preds, golds):
    exact_scores, f1_scores = {}, {}
    for qid, (a_pred, answers) in enumerate(zip(preds, golds, strict=True)):
        gold_answers = [a for a in answers if normalize_answer(a)]
        if not gold_answers:
            gold_answers = [""]
        exact_scores[qid] = max(
            int(normalize_answer(a) == normalize_answer(a_pred)) for a in gold_answers
        )
        f1_scores[qid] = max(f1_of_2(a, a_pred) for a in gold_answers)
    return exact_scores, f1_scores


def best_threshold_2(preds, scores, na_probs, qid_to_has_ans):
    num_no_ans = sum(1 for k in qid_to_has_ans if not qid_to_has_ans[k])
    cur_score = num_no_ans
    best_score = cur_score
    best_thresh = 0.0
    for qid in sorted(na_probs, key=lambda k: na_probs[k]):
        not_there = -1 if preds[qid] else 0
        diff = scores[qid] if qid_to_has_ans[qid] else not_there
        cur_score += diff
        if cur_score > best_score:
            best_score = cur_score
            best_thresh = na_probs[qid]
    return 100.0 * best_score / len(scores), best_thresh


def random_answers(chance, number):
    words = ["the", "a", "An", "Obama", "obama's", "U.S.", "in 1961,", "¿", "Havaí", "—", "the."]
    golds = [
        [" ".join(chance.choices(words, k=chance.randrange(1, 4))) for _ in range(n)]
        for n in chance.choices([1, 2, 3], k=number)
    ]
    preds = [
        chance.choice(gold) if chance.random() < 0.4 else " ".join(chance.choices(words, k=2))
        for gold in golds
    ]
    return preds, golds


@pytest.mark.parametrize(
    ("found", "due", "exact_match", "f1"),
    [
        ("The Obama!", ["obama"], 1, 1),
        ("Barack Obama", ["Obama", "Barack Hussein Obama"], 0, 2 * 2 / 5),
        ("U.S.", ["US"], 1, 1),
        ("U.S. of A", ["U.S. of America"], 0, 2 * 2 / 5),
        ("São Paulo", ["Sao Paulo"], 0, 1 / 2),
        ("", ["Obama"], 0, 0),
        ("the", ["an"], 1, 0),  # no word is left: equal, and yet 1.1 counts none in common
    ],
)
def test_answers_worked_out_by_hand(found, due, exact_match, f1):
    expected = {"exact_match": exact_match, "f1": pytest.approx(f1)}
    assert scores_of_answers([found], [due]) == expected


def test_scores_are_those_of_the_official_script_of_version_1():
    preds, golds = random_answers(random.Random(3), 500)
    expected = evaluate_1(preds, golds)
    assert all(10 < value < 90 for value in expected.values())
    scores = scores_of_answers(preds, golds)
    for name, value in expected.items():
        assert 100 * scores[name] == pytest.approx(value, rel=1e-12)


def test_scores_are_those_of_the_official_script_of_version_2():
    chance = random.Random(5)
    likeliest, golds = random_answers(chance, 500)
    golds = [[] if chance.random() < 0.4 else gold for gold in golds]
    odds = [chance.gauss(0, 2) + (0 if gold else 1) for gold in golds]
    preds = ["" if odd > 0 else answer for odd, answer in zip(odds, likeliest, strict=True)]
    scores = scores_with_nothing(preds, golds, likeliest, odds)
    has_answer = {qid: bool(gold) for qid, gold in enumerate(golds)}
    both = zip(raw_scores_2(preds, golds), raw_scores_2(likeliest, golds), strict=True)
    for name, (raw, of_likeliest) in zip(("exact_match", "f1"), both, strict=True):
        assert scores[name] == pytest.approx(sum(raw.values()) / 500, rel=1e-12)
        for part, is_part in (("answerable", True), ("unanswerable", False)):
            chosen = [raw[qid] for qid, has in has_answer.items() if has is is_part]
            expected = sum(chosen) / len(chosen)
            assert scores[f"{part}_{name}"] == pytest.approx(expected, rel=1e-12)
        best, threshold = best_threshold_2(
            dict(enumerate(likeliest)), of_likeliest, dict(enumerate(odds)), has_answer
        )
        assert 100 * scores[f"best_{name}"] == pytest.approx(best, rel=1e-12)
        assert scores[f"best_{name}_threshold"] == threshold


def test_a_part_that_is_not_there_has_no_figures():
    scores = scores_with_nothing([""], [[]], ["x"], [1.0])
    assert scores == {
        "exact_match": 1.0, "unanswerable_exact_match": 1.0, "best_exact_match": 1.0,
        "best_exact_match_threshold": 0.0, "f1": 1.0, "unanswerable_f1": 1.0, "best_f1": 1.0,
        "best_f1_threshold": 0.0,
    }  # fmt: skip
