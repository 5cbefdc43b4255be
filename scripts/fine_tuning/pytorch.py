"""The recipe in plain PyTorch, on transformers' model; batches and figures are kbert's."""

import torch
import torch.nn.functional as F
import transformers

from kbert.inputs.batches import sorted_batches
from kbert.text.tokenizer import Tokenizer

NAMES = {"token_ids": "input_ids", "segment_ids": "token_type_ids"}
NAMES["padding_mask"] = "attention_mask"
NEVER = -1e9  # the score of an answer that begins in padding


def finetune(task, learn, test, folder, recipe) -> dict:
    """Train and measure: the task's figures on `test`."""
    transformers.set_seed(recipe.seed)
    transformers.utils.logging.disable_progress_bar()
    tokenizer = Tokenizer.from_folder(folder)
    model = model_of(task, folder, recipe.dropout)
    if recipe.epochs:
        dataset = task.dataset(
            learn, tokenizer, batch_size=recipe.batch_size, shuffle=True, seed=recipe.seed,
            remainder="fill",
        )  # fmt: skip
        train(task, model, dataset, recipe)
    return scores(task, model, tokenizer, test)


def train(task, model, dataset, recipe):
    total = len(dataset) * recipe.epochs
    optimizer = torch.optim.AdamW(groups(model, recipe.weight_decay), lr=recipe.learning_rate)
    schedule = transformers.get_linear_schedule_with_warmup(
        optimizer, -int(-total * recipe.warmup // 1), total
    )
    model.train()
    for _ in range(recipe.epochs):
        for features, targets, weights in dataset.as_numpy_iterator():
            loss = loss_of(task, outputs(task, model, features), tensor(targets), tensor(weights))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()


def tensor(array):
    return torch.from_numpy(array.copy())  # tf.data's own memory cannot be written


def model_of(task, folder, dropout):
    """transformers' model with the task's head, new where the folder has none."""
    settings = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    if task.head == "SentenceEmbedding":
        return transformers.AutoModel.from_pretrained(folder, **settings)
    labels = getattr(task, "labels", None) or getattr(task, "criteria", "01")
    kind = getattr(transformers, f"AutoModelFor{task.head}")
    return kind.from_pretrained(folder, num_labels=len(labels), **settings)


def groups(model, weight_decay):
    """No decay on biases and normalisation."""
    plain = [p for n, p in model.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
    kept = {id(p) for p in plain}
    others = [p for p in model.parameters() if id(p) not in kept]
    return [{"params": others, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0}]


def outputs(task, model, features):
    """What the task's own model would give: logits, numbers in their units, or vectors."""
    given = {NAMES[name]: tensor(x).long() for name, x in features.items()}
    found, real = model(**given), given["attention_mask"]
    if task.head == "SentenceEmbedding":
        x = (found.last_hidden_state * real[:, :, None]).sum(1) / real.sum(1, keepdim=True)
        return F.normalize(x, dim=-1)
    if task.head == "QuestionAnswering":
        logits = torch.stack([found.start_logits, found.end_logits], 1)  # (B, 2, T)
        return logits.masked_fill(real[:, None] == 0, NEVER)
    if task.name == "regression":
        means, deviations = map(torch.tensor, task.unit)
        return found.logits * deviations + means
    return found.logits


def loss_of(task, found, targets, weights):
    """The mean of what is learned: rows or tokens that only fill a batch have weight 0."""
    if task.name == "regression":
        given = ~torch.isnan(targets)
        error = (found - torch.where(given, targets, found)) / torch.tensor(task.unit[1])
        losses = error.square().mean(-1)
    elif task.head == "SentenceEmbedding":
        cosines = (found[::2] * found[1::2]).sum(-1, keepdim=True)
        losses = (cosines - targets).square().mean(-1)
    else:
        losses = F.cross_entropy(
            found.flatten(0, -2), targets.long().flatten(), reduction="none"
        ).view(targets.shape)
    weights = weights.expand_as(losses)  # an answer's row has one, its start and end two losses
    return (losses * weights).sum() / weights.sum()


@torch.inference_mode()
def scores(task, model, tokenizer, records, batch_size=64) -> dict:
    """The task's figures, by its own code, of what transformers' model computes."""
    prepared, packer = task.prepare(records, tokenizer), task.packer(tokenizer)
    lengths, found = range(1, packer.max_length + 1), [None] * len(prepared.rows)
    batches = sorted_batches(packer, prepared.rows, batch_size=batch_size, buckets=lengths)
    model.eval()
    for indices, features in batches:
        for index, output in zip(indices, outputs(task, model, features).numpy(), strict=True):
            found[index] = output
    return task.scores(task.merged(found, prepared), records)
