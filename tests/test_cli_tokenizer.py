"""`kbert tokenizer`: the commands, and what they say to bad input."""

import subprocess
import sys
from unittest import mock

import pytest

from kbert import cli, hub
from kbert.convert import convert

SENTENCES = ["Uma sentença.", "E outra!"]


@pytest.fixture
def run(capsys):
    """The command with these arguments: its exit code, standard output and standard error."""

    def run(*arguments):
        capsys.readouterr()
        code = 0
        with mock.patch.object(sys, "argv", ["kbert", "tokenizer", *map(str, arguments)]):
            try:
                cli.main()
            except SystemExit as exit:
                code = exit.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def corpus(tmp_path):
    file = tmp_path / "corpus.txt"
    file.write_text("Uma sentença. E outra!\nMais 3 sentenças, em 1900.\n" * 7, "utf-8")
    return file


@pytest.fixture
def folder(run, corpus, tmp_path):
    assert run("learn", corpus, "--output", tmp_path / "v", "--lowercase")[0] == 0
    return tmp_path / "v"


@pytest.mark.parametrize("command", [[], ["learn"], ["show"]])
def test_every_command_explains_itself(run, command):
    for flag in ("-h", "--help"):
        code, output, _ = run(*command, flag)
        assert code == 0
        assert output.startswith("Usage: ")


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "byte-bpe", "unigram"])
def test_a_vocabulary_is_learned_and_shown(run, corpus, tmp_path, kind):
    output = tmp_path / "new" / "vocabulary"
    code, told, errors = run(
        "learn", "--kind", kind, "--vocab-size", 290, "--lowercase", "--strip-accents",
        "--numbers-to-unk", "--special", "<e1>", "--special", "</e1>", "--output", output, corpus,
    )  # fmt: skip
    assert (code, errors) == (0, "")
    assert told.startswith(f"{output}: {kind}, ")
    code, table, _ = run("show", output, "UMA sentença <e1>", "1900")
    assert code == 0
    lines = [line.split() for line in table.splitlines()]
    assert [line[2] for line in lines if "<e1>" in line] == ["5"]
    assert [line[-1] for line in lines if line[1].lower() in ("[unk]", "<unk>")] == ["1900"]


def test_what_the_files_do_not_give_is_told(run, corpus, tmp_path):
    code, told, _ = run("learn", corpus, "--output", tmp_path / "v")
    assert code == 0
    assert told.endswith(" pieces; the files give no more of the 30,000\n")


def test_a_table_is_cut_and_padded_as_asked(run, folder):
    code, table, _ = run("show", folder, *SENTENCES, "--max-length", 5)
    assert code == 0
    assert len(table.splitlines()) == 6
    code, table, _ = run("show", folder, *SENTENCES, "--max-length", 31)
    assert table.count("[PAD]      0        0     0\n") > 10


def test_tokenizers_are_compared(run, folder, data_dir):
    others = [data_dir / "vocab" / name for name in ("bert-base-uncased", "bertimbau-cased")]
    expected = run("show", folder, *SENTENCES, "--compare", others[0], "--compare", others[1])
    assert run("show", folder, *SENTENCES, "--compare", *others) == expected
    code, output, _ = expected
    assert code == 0
    first, second = output.split("\n\n")
    assert first.startswith("Uma sentença. ")
    assert [line.split()[0] for line in second.splitlines()] == [
        "E", *map(str, [folder, *others]),
    ]  # fmt: skip


def test_a_model_of_the_hub_is_shown_without_its_weights(run, folder, monkeypatch):
    import huggingface_hub

    asked = []

    def snapshot_download(name, **settings):
        asked.append((name, settings["allow_patterns"]))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    shown = run("show", "somebody/bert", *SENTENCES)
    assert shown == run("show", folder, *SENTENCES)
    assert shown[0] == 0
    assert asked == [("somebody/bert", hub.TOKENIZER_FILES)]
    assert not any("safetensors" in pattern for pattern in hub.TOKENIZER_FILES)
    names = ["somebody/bert", folder]
    _, compared, _ = run("show", "nobody/bert", *SENTENCES, "--compare", *names)
    assert [line.split()[0] for line in compared.splitlines()[1:4]] == [
        "nobody/bert", *map(str, names),
    ]  # fmt: skip


def test_a_checkpoint_of_keras_hub_is_shown(run, tiny_dir, tmp_path):
    convert(tiny_dir, tmp_path / "preset", "keras")
    assert not (tmp_path / "preset" / "vocab.txt").exists()
    shown = run("show", tmp_path / "preset", *SENTENCES)
    assert shown == run("show", tiny_dir, *SENTENCES)
    assert shown[0] == 0


def test_the_command_starts_without_keras_and_tensorflow(folder):
    script = (
        "import sys; from kbert import cli;"
        f"sys.argv = ['kbert', 'tokenizer', 'show', {str(folder)!r}, 'uma']; cli.main();"
        "print([name for name in ('tensorflow', 'keras', 'torch', 'jax') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


# Bad input


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--vocab-size", "7"], ["vocabulary size of", "or more, came 7"]),
        (["--kind", "bert"], ["'--kind'", "'bert'", "byte-bpe"]),
        (["--special", "<a>", "--special", "<a>"], ["'<a>' twice", "give each once"]),
        (["no.txt"], ["no.txt: expected a text file"]),
        (["latin.txt"], ["latin.txt, line 2: expected UTF-8", "byte 5", "iconv"]),
        (["--output", "corpus.txt"], ["corpus.txt: expected a folder, it is a file"]),
    ],
    ids=lambda value: value[0],
)
def test_what_cannot_be_learned_is_refused(run, corpus, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.txt").write_bytes(b"uma\nm\xe3e\n")
    code, _, errors = run("learn", corpus, "--output", "v", *options)
    assert code == 2, errors
    assert "Traceback" not in errors
    for word in words:
        assert word in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.txt", "latin.txt"]


def test_an_empty_corpus_is_refused(run, tmp_path):
    (tmp_path / "empty.txt").write_text(" \n")
    code, _, errors = run("learn", tmp_path / "empty.txt", "--output", tmp_path / "v")
    assert code == 2
    assert "empty corpus" in errors


def test_an_existing_folder_is_refused_without_overwrite(run, corpus, folder):
    code, _, errors = run("learn", corpus, "--output", folder)
    assert code == 2
    assert "pass --overwrite" in errors
    assert run("learn", corpus, "--output", folder, "--overwrite")[0] == 0


def test_what_cannot_be_shown_is_refused(run, folder, tmp_path):
    for arguments, words in (
        ([tmp_path / "no", "uma"], f"{tmp_path / 'no'}: no such folder"),
        ([folder], "Missing argument"),
        ([folder, "uma", "--max-length", 1], "max_length of at least 2"),
        ([folder, "uma", "--max-length", 9, "--compare", folder], "not both"),
        ([folder, "uma", "--compare", folder], "Expected different folders to compare"),
        ([folder, "uma", "--compare", tmp_path / "no"], f"{tmp_path / 'no'}: no such folder"),
    ):
        code, _, errors = run("show", *arguments)
        assert code == 2
        assert words in errors
