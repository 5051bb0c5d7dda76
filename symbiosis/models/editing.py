"""Token editing: real text of which a model draws anew what it would nearly have written itself."""

import numpy as np
import torch

from symbiosis.models.loading import LanguageModel, autocast, batches_by_length, own_logits, pad
from symbiosis.models.refill import draw
from symbiosis.models.sampling import Sampling
from symbiosis.models.scoring import HEAD_TOKENS
from symbiosis.models.tokens import control_tokens


@torch.inference_mode()
def edit(
    lm: LanguageModel, given: tuple[list, list], sampling: Sampling, *, threshold: float, seed: int
) -> tuple[list[list[int]], int]:
    """Token rows with every token drawn anew that the model thought likely, and how many were drawn.

        x'_i ~ p(. | x_1 .. x_i-1)  where p(x_i | x_1 .. x_i-1) >= threshold,  else x'_i = x_i

    given: rows, and how many leading tokens of each are not to be changed. A row is drawn given itself as it was, in
    one forward pass. Control tokens, an end among them, stay and are never drawn. Draws are at the sampling's
    temperature and nucleus; p is the model's own. ToEdit: Zhu et al. 2024, arXiv 2412.14689, whose threshold is .99.
    """
    (rows, first), n_drawn, known = given, 0, lm.model.get_input_embeddings().num_embeddings
    control = [i for i in sorted(control_tokens(lm.tokenizer)) if i < known]  # a pad token may be beyond
    uniforms = np.random.default_rng(seed).random((len(rows), max(map(len, rows))))
    edited, trunk, device = [list(row) for row in rows], lm.model.get_decoder(), lm.device
    for batch in batches_by_length([len(row) for row in rows], sampling.batch_size):
        ids = pad(lm.tokenizer, [rows[i] for i in batch], left=False, device=device)["input_ids"]
        spans = [(k, j) for k, i in enumerate(batch) for j in range(first[i], len(rows[i]))]
        places = torch.tensor([(k, j) for k, j in spans if rows[batch[k]][j] not in control]).reshape(-1, 2)
        with autocast(lm.model, sampling.precision):
            read = trunk(input_ids=ids, use_cache=False)
            for k, j in (part.T for part in places.split(HEAD_TOKENS)):
                logits = own_logits(lm.model, type(read), read.last_hidden_state[k, j - 1]).float()
                sure = logits.softmax(-1).gather(1, ids[k, j][:, None])[:, 0] >= threshold
                logits[:, control], k, j = -torch.inf, k[sure.cpu()], j[sure.cpu()]
                u = torch.tensor(uniforms[batch[k.numpy()], j.numpy()], device=device)
                tokens = draw(logits[sure], u, temperature=sampling.temperature, top_p=sampling.top_p)
                for row, place, token in zip(batch[k.numpy()], j.tolist(), tokens.tolist(), strict=True):
                    edited[row][place] = token
                n_drawn += len(tokens)
    return edited, n_drawn
