"""Language models.

loading        model and tokenizer as one LanguageModel, from a folder or the hub; documents, padding
tokens         token ids of texts, and of texts that go on
chat           questions and answers in a model's chat template
checks         what a model is refused for, before and after its weights are read
weights        real weights from the package registry, and from GGUF files
student        is taught lessons, and says which label a text has
proxies        quick Students: linear models over fixed vectors, to design lessons by
generator      writes, explains, labels, and is fine-tuned
scoring        likelihoods of label words and of texts
training       one optimiser loop, adapters, batches of like length
generation     sampling: by transformers, by refill, by vllm
hidden_states  vectors of texts and the density of units inside a model
encoders       vectors of texts by another encoder
fast           speed that changes no number
refill         our own sampling loop
ranks, devices several processes that train as one; which GPUs a run may use, and its precision
"""
