"""Loads a model written by this project into transformers and compares logits and, where there are any, generated
answers; called by tests.

    python tools/check_llava.py FOLDER     # config.json, model.safetensors, expected.safetensors
"""

import sys

import torch
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration


def main():
    folder = sys.argv[1]
    model, report = LlavaForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not report[kind], (kind, report[kind])
    expected = load_file(f"{folder}/expected.safetensors")
    tokens, valid = expected["tokens"].long(), expected["valid"].long()
    places = (valid.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        scores = model.eval()(
            input_ids=tokens, pixel_values=expected["images"], attention_mask=valid, position_ids=places
        ).logits
    difference = ((scores - expected["scores"]) * valid[..., None]).abs().max().item()
    print(f"scores differ by {difference:.1e}")
    assert difference < 1e-4
    if "answers" in expected:
        answers = expected["answers"].long()
        arguments = dict(attention_mask=valid, pixel_values=expected["images"], do_sample=False, pad_token_id=0)
        made = model.generate(input_ids=tokens, max_new_tokens=answers.shape[1], eos_token_id=None, **arguments)
        assert torch.equal(made[:, tokens.shape[1] :], answers), (made, answers)
        print("answers are equal")


if __name__ == "__main__":
    main()
