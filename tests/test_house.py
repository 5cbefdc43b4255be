"""The house's plan (design.md), read from the imports and sizes of the code itself."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Part → the parts it may import, and through them theirs; `errors` and `kbert` are open to all.
BELOW = {
    "kbert": (),  # kbert/__init__.py
    "errors": (),
    "text": (),
    "inputs": ("text",),
    "layers": (),
    "weights": (),
    "models": ("layers", "weights"),
    "heads": ("layers",),
    "hub": (),
    "checkpoint": ("text", "models", "weights", "hub"),
    "inference": ("inputs",),
    "tasks": ("inputs", "heads", "weights"),
    "loading": ("tasks", "checkpoint"),
    "training": ("tasks", "checkpoint", "inference", "loading"),
    "explain": ("tasks", "checkpoint", "inference"),
    "export": ("tasks", "checkpoint", "inference", "loading"),
    "serving": ("export",),
    "datasets": ("inputs",),
    "convert": ("checkpoint", "heads"),
    "features": ("tasks", "checkpoint", "inference"),
    "cli": ("convert", "features", "training", "explain", "serving", "datasets"),
}
BACKENDS = {"tensorflow", "tensorflow_text", "jax", "torch"}
KERNELS = "kbert/layers/kernels.py"
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_ARGUMENTS = 330, 50, 10


def reachable(part):
    """The parts that one may import: itself, what stands below, and below that."""
    found = {part, "errors", "kbert"}
    for below in BELOW[part]:
        found |= reachable(below)
    return found


def part_of(module):
    """kbert.text.tokenizer → text; kbert and kbert.__version__ → kbert."""
    names = module.split(".")
    return names[1] if len(names) > 1 and not names[1].startswith("__") else "kbert"


def module_of(path):
    """kbert/text/tokenizer.py → kbert.text.tokenizer."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(tree, path):
    """(module, line, whether it is imported as the file is) of every import, wherever it stands."""
    package = (
        module_of(path) if path.endswith("__init__.py") else module_of(path).rpartition(".")[0]
    )
    at_top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *filter(None, [node.module])])
            # "from kbert.layers import masks" imports a file, "from … import MASK" a name: both
            # read as a file here, which tells the parts apart all the same.
            modules = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((module, node.lineno, id(node) in at_top) for module in modules)


def arrows_up(tree, path):
    """Imports that run up the house, or across it where it has a wall."""
    part = part_of(module_of(path))
    if part not in BELOW:
        yield f"{path}: {part!r} has no place in the plan of this test; give it one."
        return
    for module, line, _ in imports(tree, path):
        package = module.partition(".")[0]
        where = f"{path}:{line} imports {module}"
        if package == "kbert":
            if part_of(module) not in reachable(part):
                yield f"{where}: an arrow that runs up."
            elif part == part_of(module) == "models" and module.split(".")[2:3] != path_file(path):
                yield f"{where}: models never import each other."
        elif part in ("models", "layers") and package in BACKENDS and path != KERNELS:
            yield f"{where}: only {KERNELS} may import a backend."
        elif part in ("text", "inputs") and package == "keras":
            yield f"{where}: text and inputs never see a layer."


def path_file(path):
    return [Path(path).stem]


def hasty_imports(tree, path):
    """Backends that `kernels.py` imports as it is imported, and not when they are needed."""
    if path == KERNELS:
        for module, line, at_top in imports(tree, path):
            if at_top and module.partition(".")[0] in BACKENDS:
                yield f"{path}:{line} imports {module} at its top; import it where it is used."


def code_lines(function):
    """Lines of a function that are neither its docstring nor blank nor a comment."""
    lines = set()
    documented = ast.get_docstring(function, clean=False) is not None
    for statement in function.body[documented:]:
        for node in ast.walk(statement):
            if hasattr(node, "lineno"):
                lines |= {node.lineno, node.end_lineno}
    return len(lines)


def too_big(tree, path, source):
    """Files, functions and constructors above the house's limits."""
    number = len(source.splitlines())
    if number > MAX_FILE_LINES:
        yield f"{path} has {number} lines, more than {MAX_FILE_LINES}."
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        where = f"{path}:{node.lineno} {node.name}"
        if (number := code_lines(node)) > MAX_FUNCTION_LINES:
            yield f"{where} has {number} lines of code, more than {MAX_FUNCTION_LINES}."
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        number = len(arguments) - 1
        if node.name == "__init__" and number > MAX_ARGUMENTS:
            yield f"{where} takes {number} arguments, more than {MAX_ARGUMENTS}."


def faults(path, source):
    """Everything that a file of the house does against its plan."""
    tree = ast.parse(source)
    return [*arrows_up(tree, path), *hasty_imports(tree, path), *too_big(tree, path, source)]


FILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "kbert").rglob("*.py"))


def test_the_house_has_files():
    assert len(FILES) > 20


@pytest.mark.parametrize("path", FILES)
def test_a_file_keeps_to_the_plan_of_the_house(path):
    assert faults(path, (ROOT / path).read_text("utf-8")) == []


def test_the_plan_has_no_way_back_down_to_itself():
    for part, below in BELOW.items():
        assert all(part not in reachable(lower) for lower in below), part


LONG = "def long():\n" + "    x = 1\n" * 51
WIDE = "class Wide:\n    def __init__(self, a, b, c, d, e, f, g, h, i, *, j, k):\n        pass\n"


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("kbert/text/x.py", "from kbert.inputs.packer import Packer", "runs up"),
        ("kbert/text/x.py", "import kbert.layers.masks", "runs up"),
        ("kbert/layers/x.py", "from kbert.models import bert", "runs up"),
        ("kbert/layers/x.py", "def f():\n    from ..heads.pooling import pooled", "runs up"),
        ("kbert/heads/x.py", "from kbert import models", "runs up"),
        ("kbert/tasks/x.py", "from kbert.training.finetune import finetune", "runs up"),
        ("kbert/tasks/x.py", "from kbert.models.bert import bert", "runs up"),
        ("kbert/checkpoint.py", "from kbert.tasks import text_classification", "runs up"),
        ("kbert/training/x.py", "from kbert.export.saved_model import export", "runs up"),
        ("kbert/export/x.py", "import kbert.cli", "runs up"),
        ("kbert/errors.py", "import kbert.text.tokenizer", "runs up"),
        ("kbert/__init__.py", "from .text import tokenizer", "runs up"),
        ("kbert/models/x.py", "from kbert.models.bert import bert", "never import each other"),
        ("kbert/models/x.py", "from . import bert", "never import each other"),
        ("kbert/models/x.py", "def f():\n    import torch.nn", "may import a backend"),
        ("kbert/layers/x.py", "from jax import numpy", "may import a backend"),
        ("kbert/layers/x.py", "import tensorflow as tf", "may import a backend"),
        ("kbert/layers/kernels.py", "import torch", "import it where it is used"),
        ("kbert/inputs/x.py", "from keras.layers import Dense", "never see a layer"),
        ("kbert/text/x.py", "import keras", "never see a layer"),
        ("kbert/cellar/x.py", "import os", "no place in the plan"),
        ("kbert/text/x.py", "x = 1\n" * 331, "331 lines, more than 330"),
        ("kbert/text/x.py", LONG, "long has 51 lines of code, more than 50"),
        ("kbert/text/x.py", WIDE, "takes 11 arguments, more than 10"),
    ],
)
def test_a_fault_is_found(path, source, fault):
    assert len(found := faults(path, source)) == 1
    assert fault in found[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("kbert/inputs/x.py", "from kbert.text.tokenizer import Tokenizer"),
        ("kbert/models/bert.py", "from kbert.layers import masks\nfrom kbert.weights import names"),
        ("kbert/layers/kernels.py", "def f():\n    import torch"),
        ("kbert/text/in_graph.py", "import tensorflow as tf"),
        ("kbert/training/x.py", "from kbert.inputs.batches import batched_dataset"),
        ("kbert/text/x.py", "from kbert.errors import InputError"),
        ("kbert/text/x.py", "from kbert import __version__"),
        ("kbert/cli.py", "from kbert.text.tokenizer import Tokenizer"),
        ("kbert/text/x.py", 'def f():\n    """' + "doc\n\n" * 60 + '"""\n    # why\n    return 1'),
    ],
)
def test_what_the_plan_allows_passes(path, source):
    assert faults(path, source) == []
