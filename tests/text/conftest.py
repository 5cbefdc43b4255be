"""Tokenizers in the graph, each built once for all tests: that takes seconds."""

import functools

import pytest


@pytest.fixture(scope="session")
def graph_like():
    """Of a tokenizer: the `Graph` of it, or of another that was the same; only to read."""
    from in_graph_cases import Graph

    graphs = {}

    def build(tokenizer) -> Graph:
        key = tokenizer.rust.to_str()
        if key not in graphs:
            graphs[key] = Graph(tokenizer)
        return graphs[key]

    return build


@pytest.fixture(scope="session")
def tokenizer_dir(data_dir, tmp_path_factory):
    """Of a name of the tokenizer check, or "bpe without accents" and so on: its folder."""
    from in_graph_cases import subjects

    from kbert.text.learn import learn

    parent = tmp_path_factory.mktemp("tokenizers")

    @functools.cache
    def make(name: str):
        if name in subjects.NAMES:
            return subjects.prepare(name, data_dir, parent)
        corpus = sorted((data_dir / "corpus" / "pt_machado" / "poesia").glob("*.txt"))
        kind = name.removesuffix(" without accents")
        learn(corpus[:3], parent / name, kind, 1_000, lowercase=True, strip_accents=True)
        return parent / name

    return make


@pytest.fixture(scope="session")
def graph_of(tokenizer_dir, graph_like):
    """Of a name of the tokenizer check: a `Graph`, only to read."""
    from kbert.text.tokenizer import Tokenizer

    return lambda name: graph_like(Tokenizer.from_folder(tokenizer_dir(name)))
