"""Every kind of tokenizer in SavedModels, loaded where kbert is not."""

from in_graph_cases import served_elsewhere
from test_tokenizer import TORTURE, banking, mismatches

NAMES = ("bert-base-uncased", "roberta-base", "t5-small", "learned-bpe")


def test_saved_models_need_only_tensorflow_and_tensorflow_text(graph_of, tmp_path):
    """All in one process, where none takes another's tables for its own."""
    texts = [*TORTURE, *banking()[:100], "a <mask>.", "a</s> [SEP]"]
    graphs = {name: graph_of(name) for name in NAMES}
    modules = {name: graph.module for name, graph in graphs.items()}
    found = served_elsewhere(modules, texts, tmp_path)
    for name, graph in graphs.items():
        assert mismatches(texts, graph.tokenizer(texts), found[name]) == [], name
