"""The training step of crates/backbones/benches/questions_together.rs in transformers and peft: twelve questions about one
image, each in its own sequence, as in LLaVA's trainer; f32, and autocast to bf16.

    just bench questions_together && python tools/questions_together.py

The same shape (SmolLM2-135M with a fifth of its blocks, random), LoRA of rank 32 on q, k, v, up and down, 99 + 25
tokens per question of which the last two are trained on, one thread. Median of ten steps, seconds.
"""

import contextlib
import statistics
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

QUESTIONS, PICTURE, QUESTION, ANSWER, STEPS = 12, 99, 25, 2, 10
TARGETS = ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"]


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=576, intermediate_size=1536, num_hidden_layers=6, num_attention_heads=9, num_key_value_heads=3,
        vocab_size=49152, tie_word_embeddings=True,
    )
    model = get_peft_model(LlamaForCausalLM(config), LoraConfig(r=32, lora_alpha=64, target_modules=TARGETS)).train()
    tokens = torch.randint(0, 49152, (QUESTIONS, PICTURE + QUESTION))
    labels = tokens.clone()
    labels[:, :-ANSWER] = -100
    for name, kind in [("f32", None), ("bf16", torch.bfloat16)]:
        times = []
        for _ in range(STEPS + 1):
            start = time.perf_counter()
            with torch.autocast("cpu", kind) if kind else contextlib.nullcontext():
                loss = model(input_ids=tokens, labels=labels).loss
            loss.backward()
            model.zero_grad()
            times.append(time.perf_counter() - start)
        print(f"{name}/apart {statistics.median(times[1:]):.2f} s")


if __name__ == "__main__":
    main()
